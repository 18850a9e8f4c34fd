"""How a conf is read: documents, paths relative to it, arguments, and the page that lists its keys."""
