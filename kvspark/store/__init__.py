"""Places that keep bytes under keys: one contract, one file or folder for each kind of store."""
