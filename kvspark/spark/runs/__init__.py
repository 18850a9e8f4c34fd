"""What is told of a run: progress, statistics, report and history."""
