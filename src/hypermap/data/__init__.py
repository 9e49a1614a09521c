"""Data: readers of raw sets, how their files come here, and what training sees of them."""
