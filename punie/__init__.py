"""punie: declarative fine-tuning experiments for local tool-calling models on MLX."""

__version__ = "0.1.0"
