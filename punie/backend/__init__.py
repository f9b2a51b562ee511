"""The only code, beside the tiny recipe, that imports mlx."""
