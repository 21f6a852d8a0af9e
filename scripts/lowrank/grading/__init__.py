"""The answer of a completion, and whether it is right."""
