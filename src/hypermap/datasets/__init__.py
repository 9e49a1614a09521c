"""Data sets: readers of published files and of a user's own, their download, split and preparation."""
