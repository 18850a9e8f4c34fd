"""Places that keep bytes under keys."""
