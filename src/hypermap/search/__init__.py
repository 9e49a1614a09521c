"""The search: spaces of hyperparameters and their scales, samplers, pruners, studies."""
