"""AutoML: many models on folds, in a fixed order of steps, and an ensemble of the best."""
