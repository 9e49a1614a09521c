"""The ways to train several networks of one shape as a stack, each behind the same interface."""
