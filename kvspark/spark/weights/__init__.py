"""How a model's files get to the workers: broadcast, artifact, path or store."""
