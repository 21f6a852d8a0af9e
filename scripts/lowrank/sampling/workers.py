"""What every worker of an engine on several GPUs imports: they are processes of their own."""

from lowrank.sampling.casting import load_format

# A worker knows the load formats that were registered in it, not those of the process it serves.
for dtype in ("bfloat16", "float16", "float32"):
    load_format(dtype)


class Extension:
    """What vLLM asks for by name, and adds to its worker: nothing."""
