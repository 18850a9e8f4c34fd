"""Where tasks write their files: a folder of a file system, or names in an object store."""
