"""Hypermap: a workbench for tuning deep networks, in which everything is a mapping."""
