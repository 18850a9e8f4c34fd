"""The bytes of an entry: header, codec, how rows become entries and entries become rows."""
