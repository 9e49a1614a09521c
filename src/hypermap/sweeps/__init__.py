"""Sweeps: a training as the target of a search, and the sweeper behind the Hydra plugin's face."""
