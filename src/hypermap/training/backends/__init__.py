"""What carries out the steps of one training, or of many as one: a backend, its choice, and what may be stacked."""
