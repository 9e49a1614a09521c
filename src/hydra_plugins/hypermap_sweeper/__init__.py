"""The sweeper: translates between Hydra and `hypermap.search`."""
