"""Where the files of a table lie that a log or a catalog lists, and those of the tasks of a run on a POSIX file system."""
