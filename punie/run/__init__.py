"""One run: the order of its stages, what is reused, and the run directory."""
