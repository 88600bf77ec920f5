"""Use of trained models: predictions for images."""
