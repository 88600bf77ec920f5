"""Images: finding, opening, and preparing them as a model was evaluated."""
