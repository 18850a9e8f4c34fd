"""Where the output of a job goes, for the job: folders of a POSIX file system, or what a publisher publishes to."""
