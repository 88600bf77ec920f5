"""Whole networks: what zoo.optimize makes of them beside PyTorch and the installed engines.

``measure`` drives one process for each candidate (``process``), which all have the same weights and
input (``model``), and gathers what they report.
"""
