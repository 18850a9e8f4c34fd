"""A stage as a plain value: one pure function of a model, with its address."""
