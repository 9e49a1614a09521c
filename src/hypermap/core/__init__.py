"""What all other rooms stand on: errors, files, objects by name, the machine. It knows nothing of training."""
