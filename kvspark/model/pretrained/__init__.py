"""Models from folders of transformers and sentence-transformers, setting by setting."""
