"""What is checked before a run: the same bits twice, lossy codecs, the store's room, the own runtime."""
