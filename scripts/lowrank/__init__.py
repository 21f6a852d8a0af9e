"""The science behind the workflow: plain typed functions, no workflow, no command line."""
