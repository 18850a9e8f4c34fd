"""A store of several stores, the fastest first."""
