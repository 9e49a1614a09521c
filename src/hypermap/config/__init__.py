"""The configuration: params.yaml, conf/ and the command line, composed by Hydra and checked."""
