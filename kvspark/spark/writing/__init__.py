"""Writing by the workers: each task gives its rows to files itself, and the driver takes those that count."""
