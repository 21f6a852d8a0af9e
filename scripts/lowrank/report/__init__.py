"""One page from everything that the phases before it wrote."""
