"""Where the files of a table lie that a log or a catalog lists."""
