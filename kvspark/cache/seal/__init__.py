"""What closes an entry: a checksum, or AES-256-GCM with keys of a ring."""
