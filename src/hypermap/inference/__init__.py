"""Inference: evaluation on the test set, prediction, export."""
