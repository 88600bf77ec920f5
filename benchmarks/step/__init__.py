"""What benchmarks/training_step.py is made of.

``cases`` says what is measured. ``process`` is the process of a contestant, whose steps are in
``pytorch`` or ``keras_steps``; ``profiling`` and ``peak`` look into one. ``race`` drives them.
"""
