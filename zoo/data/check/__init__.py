"""Looking through a data set: how large it is, how clean, and what it looks like."""
