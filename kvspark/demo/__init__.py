"""The demo: three nights of a real scoring job over real text, with a real encoder."""
