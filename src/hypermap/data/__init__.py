"""What training sees of a prepared data set: its splits, its folds, and what is fitted on training rows."""
