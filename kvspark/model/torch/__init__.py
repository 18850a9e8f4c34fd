"""Models from torch modules: exported to a graph and cut into stages."""
