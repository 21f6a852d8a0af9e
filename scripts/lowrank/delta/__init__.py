"""What training changed: pairs of tensors, their difference factored, its statistics."""
