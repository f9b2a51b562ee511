"""Suites, parsing, scoring and the sandbox the model's code runs in."""
