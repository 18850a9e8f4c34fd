"""A store in immutable files: the cold tier, on a disk or in an object store."""
