"""Divergence: completions that exist, read through every model of an experiment."""
