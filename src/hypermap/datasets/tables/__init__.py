"""Tables with columns of various types: reading files, detecting types and formats, checking for leakage."""
