"""Preprocessors of kinds of data other than images and tables, each named by its dotted path in a reader's `Raw`."""
