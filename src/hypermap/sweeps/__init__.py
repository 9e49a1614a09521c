"""Sweeps: a training as the target of a search, and the implementation of the Hydra plugin."""
