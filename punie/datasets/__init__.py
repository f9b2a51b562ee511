"""Chat-format training data: generate, validate, load."""
