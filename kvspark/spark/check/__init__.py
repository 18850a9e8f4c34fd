"""What is looked at before a run: model, columns, plan, input and cache; the dry run."""
