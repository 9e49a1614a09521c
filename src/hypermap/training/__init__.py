"""Training: the loop, its components, its state, and the backends that run its steps."""
