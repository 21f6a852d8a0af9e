"""Adapters of a rank, and checkpoints made of a base and an adapter."""
