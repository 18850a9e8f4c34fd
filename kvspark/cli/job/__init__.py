"""Commands on a job: its conf, its runs, its output."""
