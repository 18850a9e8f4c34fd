"""A store on a Redis Cluster: which node has a key, and one look-up on all of them."""
