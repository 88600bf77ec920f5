"""Benchmarks of single ops beside the best that PyTorch offers (``zoo bench``).

``shapes`` names the cases, ``candidates`` the contestants, ``timing`` the method, ``worker``
is the process that measures, ``runner`` starts it, ``report`` and ``plot`` show what came out.
"""
