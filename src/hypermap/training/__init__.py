"""Training: the loop, what it is made of, its state, and the backends that carry out its steps."""
