"""Content-addressed artifacts: keys, publication, verification, locks."""
