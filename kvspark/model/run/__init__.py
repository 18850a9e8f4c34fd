"""What runs a stage: programs of operators, on a CPU or a GPU, and what decides their bits."""
