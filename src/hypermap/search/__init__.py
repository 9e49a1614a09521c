"""The search: a space of hyperparameters, the mappings to one that is easy to search, samplers, pruners, studies."""
