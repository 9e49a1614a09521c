"""What training sees of a prepared data set: its splits, its folds, and preprocessing fitted on training rows."""
