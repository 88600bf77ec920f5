"""Training: a run's settings, its folder, and the loop.

``TrainConfig`` says what a run is made of, :func:`zoo.training.session.train` runs it. Importing
this package imports no torch, so that a mistyped setting is told at once.
"""
