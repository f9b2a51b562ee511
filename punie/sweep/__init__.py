"""Sweeps: planned as a whole, sharing what they have in common, and finished whatever happens."""
