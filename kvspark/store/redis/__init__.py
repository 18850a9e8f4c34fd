"""A store on one server that speaks RESP: Redis or Valkey, alone or behind sentinels."""
