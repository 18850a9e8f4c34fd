"""The three nights of `make demo`: made, scored with the cache and without, compared and drawn."""
