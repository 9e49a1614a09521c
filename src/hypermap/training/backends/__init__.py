"""Backends that run the steps of one training or of a stack, their selection, and which trainings can be stacked."""
