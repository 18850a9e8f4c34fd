"""Delta tables as inputs."""
