"""Adapters of a rank or of somebody else's, and checkpoints made of a base and an adapter."""
