"""GGUF files, read into model folders that mlx-lm loads; does not import mlx."""

VERSION = 1
"""Of the reader; raised when the same file gives another folder."""
