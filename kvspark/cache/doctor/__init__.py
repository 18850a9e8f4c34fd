"""What is wrong with a store, before a night finds out: findings for `kvspark doctor`."""
