"""What is computed: stages, their programs and their bundle on disk."""
