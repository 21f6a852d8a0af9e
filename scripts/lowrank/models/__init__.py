"""Checkpoints and problem sets: fetched, listed, opened, every tensor known."""
