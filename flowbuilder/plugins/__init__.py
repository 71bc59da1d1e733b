"""What a task type is, and the registry that finds one by name."""
