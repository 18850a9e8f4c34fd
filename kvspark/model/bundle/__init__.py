"""A model on disk: its manifest, the files of its stages, and what is told of it."""
