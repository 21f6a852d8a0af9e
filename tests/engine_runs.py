"""Run by test_engine.py in a process of its own: many small jobs on few starts of real vLLM.

python engine_runs.py FOLDER: the folder holds model, carrier, adapter, merged (carrier and adapter
in one), tokenizer and problems.parquet; a table a job is left in it. Tables of models that are
served in bfloat16 and computed in float32 begin with cast-.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from sampling_case import arguments

import sample as program
from lowrank.sampling import engine, feeding
from lowrank.sampling.completions import sample


def main(folder: Path) -> None:
    running = {}

    def make(output: str, *more: str, shared: str, in_flight: int = 64, backwards=False) -> None:
        """Sample through the engine called `shared`, started by the first that asks for it."""

        def start(serving, sequences):
            if shared not in running:
                running[shared] = engine.start(serving, sequences)
            _, adapter, _ = running[shared].args

            def complete(requests):
                requests = list(requests)[:: -1 if backwards else 1]
                vllm = running[shared].args[0]
                return feeding.complete(vllm, serving.adapter and adapter, in_flight, requests)

            return complete

        sample(program.job(program.parse(arguments(folder, output, *more))), start)

    carrier = ("--model", str(folder / "carrier"))
    adapter = (*carrier, "--adapter", str(folder / "adapter"))
    merged = ("--model", str(folder / "merged"))
    cast = ("--dtype", "bfloat16", "--compute-dtype", "float32")
    # Keys and values for 13 blocks of 128 tokens: 12 sequences can begin, but not all grow to 150.
    for name, bytes_a_token, more in (("", 1536, ()), ("cast-", 3072, (*merged, *cast))):
        more += ("--kv-cache-gib", str(13.5 * 128 * bytes_a_token / 2**30))
        pool = partial(make, shared=f"{name}pool")
        pool(f"{name}all.parquet", *more)
        pool(f"{name}again.parquet", *more)
        pool(f"{name}alone.parquet", *more, "--samples", "2", in_flight=1)
        pool(f"{name}backwards.parquet", *more, in_flight=5, backwards=True)
        pool(f"{name}first.parquet", *more, "--parts", "2", in_flight=3)
        pool(f"{name}second.parquet", *more, "--parts", "2", "--part", "2")
    once, greedy = ("--dtype", "float32"), ("--temperature", "0", "--samples", "1")
    make("adapter.parquet", *once, *greedy, *adapter, shared="float32")
    make("carrier.parquet", *once, *greedy, *carrier, shared="float32")
    make("merged.parquet", *once, *greedy, *merged, shared="merged")
    make("cast-adapter.parquet", *cast, *greedy, *adapter, shared="cast")
    make("cast-carrier.parquet", *cast, *greedy, *carrier, shared="cast")
    make("cast-merged.parquet", *cast, *greedy, *merged, shared="cast-pool")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
