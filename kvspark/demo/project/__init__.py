"""The files that `kvspark init` writes."""
