"""What is asked: the configuration, the experiment it names, digests of their sources."""
