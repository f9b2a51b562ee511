"""Training data in chat format: reading, checking, overlaps."""

TRAIN, VALID = SPLITS = ("train.jsonl", "valid.jsonl")
"""The files of a converted data set, and of a folder that needs no conversion."""
