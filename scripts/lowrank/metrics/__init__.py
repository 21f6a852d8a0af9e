"""What grades say of a model, and of two models paired by problem."""
