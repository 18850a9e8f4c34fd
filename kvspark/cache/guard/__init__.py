"""The one place where trouble with a store becomes a miss, and how long a job waits for it."""
