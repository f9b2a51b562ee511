"""Training data in chat format: reading, checking, overlaps."""
