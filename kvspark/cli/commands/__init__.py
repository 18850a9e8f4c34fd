"""The commands of `kvspark`, one file each."""
