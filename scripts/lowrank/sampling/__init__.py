"""Completions: prompts, the store of what was made, vLLM for what is missing."""
