"""Experiments: the trainings that a configuration needs, with scheduling, resuming and their results."""
