"""Tables of columns of many kinds: read, understood, and prepared for a model."""
