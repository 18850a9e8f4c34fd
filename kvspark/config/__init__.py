"""What a person writes in `conf/*.yaml`, checked and frozen; it knows nothing of what it configures."""
