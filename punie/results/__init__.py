"""What was found: records of runs and sweeps, and everything that is a view of them."""
