"""What ran where, with which versions."""
