"""The training loop: order, batches, checkpoints, metrics."""
