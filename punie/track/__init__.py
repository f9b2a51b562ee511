"""Trackers: what MLflow, TensorBoard, Trackio and Weights & Biases are told of runs and sweeps."""
