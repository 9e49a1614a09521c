"""Experiments: the trainings that a configuration asks for, scheduled, resumed, and written down."""
