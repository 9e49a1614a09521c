"""Data sets: readers of published and of a user's own files, their download, split and preparation."""
