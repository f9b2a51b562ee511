"""The recipe that builds the embedded models from a seed."""
