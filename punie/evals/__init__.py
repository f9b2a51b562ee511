"""Suites, scorers, the sandbox for a model's code, and the client of a server."""
