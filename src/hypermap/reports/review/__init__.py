"""What changed between two states of the project, for a pull request."""
