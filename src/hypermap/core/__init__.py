"""The base of all other rooms: errors, files, objects by name, the machine. It knows nothing about training."""
