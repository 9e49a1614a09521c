"""From a study to its report: what a practitioner should do next, and whether the winner is real."""
