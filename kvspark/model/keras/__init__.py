"""Models from Keras files: its layers run on torch and are exported."""
