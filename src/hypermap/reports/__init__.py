"""Reports: of a run, of a study, and of what changed between two states; they read results and change none."""
