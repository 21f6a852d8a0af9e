"""How the time of a plan grows with the number of its jobs.

Plans experiments/deepscaler.yaml (fetched by revision: no network is asked) with more and more
variants, in an empty folder, by `snakemake --dry-run --quiet`. Prints jobs, CPU seconds (user and
system, of the fastest of --rounds; other work on the machine counts little), wall seconds, and the
exponent from one size to the next: 1 is linear.
"""

import argparse
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SNAKEFILE = Path(__file__).resolve().parents[1] / "Snakefile"

# Plans of some 70, 1,000 and 5,000 jobs: how many ranks, and whether all forms and controls.
SIZES = ((3, False), (10, True), (50, True))
EVERY = ["controls=[other,biases,random,bottom,rescaled]", "serve_dtype=[bfloat16,float32]"]


def plan(folder: str, ranks: int, every: bool, *options: str) -> tuple[float, float, str]:
    """CPU seconds, wall seconds and output of one plan."""
    asked = ["experiment=deepscaler", f"ranks=[{','.join(map(str, range(1, ranks + 1)))}]"]
    asked += EVERY * every
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE)]
    command += ["--directory", folder, "--dry-run", *options, "--config", *asked]
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        sys.exit(done.stdout)
    cpu = after.children_user + after.children_system
    return cpu - before.children_user - before.children_system, wall, done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="plans of each size")
    rounds = parser.parse_args().rounds
    print(f"{'jobs':>6} {'CPU s':>7} {'wall s':>7} {'exponent':>9}")
    last = None
    for ranks, every in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            counted = plan(folder, ranks, every, "--quiet", "rules")[2]
            jobs = int(re.search(r"^total +(\d+)", counted, re.MULTILINE)[1])
            cpu, wall, _ = min(plan(folder, ranks, every, "--quiet") for _ in range(rounds))
        grown = f"{math.log(cpu / last[1]) / math.log(jobs / last[0]):.2f}" if last else ""
        print(f"{jobs:>6} {cpu:>7.1f} {wall:>7.1f} {grown:>9}", flush=True)
        last = jobs, cpu


if __name__ == "__main__":
    main()
