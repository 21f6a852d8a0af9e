"""Run by test_engine.py in a process of its own: many small jobs on few starts of real vLLM.

python engine_runs.py FOLDER: the folder holds model, carrier, adapter, merged (carrier and adapter
in one), tokenizer and problems.parquet; a table a job is left in it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))

from sampling_case import arguments

import sample as program
from lowrank import engine
from lowrank.sampling import sample


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
                return engine.complete(vllm, serving.adapter and adapter, in_flight, requests)

            return complete

        sample(program.job(program.parse(arguments(folder, output, *more))), start)

    # Keys and values for 13 blocks of 128 tokens: 12 sequences can begin, but not all grow to 150.
    small = ("--kv-cache-gib", str(13.5 * 128 * 1536 / 2**30))
    make("all.parquet", *small, shared="bfloat16")
    make("again.parquet", shared="bfloat16")
    make("alone.parquet", "--count", "2", shared="bfloat16", in_flight=1)
    make("backwards.parquet", shared="bfloat16", in_flight=5, backwards=True)
    make("first.parquet", "--count", "2", shared="bfloat16", in_flight=3)
    make("second.parquet", "--first", "2", "--count", "2", shared="bfloat16")
    greedy = ("--dtype", "float32", "--temperature", "0", "--count", "1")
    carrier = ("--model", str(folder / "carrier"))
    adapter = (*carrier, "--adapter", str(folder / "adapter"))
    make("adapter.parquet", *greedy, *adapter, shared="float32")
    make("carrier.parquet", *greedy, *carrier, shared="float32")
    make("merged.parquet", *greedy, "--model", str(folder / "merged"), shared="merged")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
