"""Rehearse an experiment of 1.5B models at its full shapes, without internet and without a GPU.

Random checkpoints of the exact names, shapes and dtypes of the real ones (see make_pair.py) and 30
made-up problems are put behind a small hub on this machine. The real client fetches them from
there, and Snakemake runs the experiment from download to report. Completions are of random tokens
and never end by themselves; nothing that the page says means anything.

Printed: for every rule its jobs, seconds on the wall and of CPU, and the largest memory of one job
(resident, as Snakemake measures it); the largest size of the folder while it ran; wall time.

An experiment that samples on a GPU samples here on the CPU, in float32. Keys of the configuration
that come after -- are handed to Snakemake: they make a rehearsal short.

Examples, on an idle machine:
  python benchmarks/rehearsal.py --experiment deepscaler-laptop --output rehearsal
  python benchmarks/rehearsal.py --experiment deepscaler --tokens 32 --output rehearsal \\
      -- samples=8 'maj_k=[8]' 'ranks=[16,64]' details=false
"""

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import make_pair  # noqa: E402 - found beside this file
from conftest import write_tokenizer  # noqa: E402
from hub_server import Hub, mapped, running_hub  # noqa: E402

PROBLEMS = 30
TEXT = "Find the number of ways in which this can be done, and say how you know it."
# How each model of the post is stored: by its repository.
STORED = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": (make_pair.base_weight, "BF16", False),
    "agentica-org/DeepScaleR-1.5B-Preview": (make_pair.derivative_weight, "F32", False),
    "Qwen/Qwen2.5-Math-1.5B": (make_pair.grandparent_weight, "BF16", True),
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--experiment", default="deepscaler-laptop", metavar="NAME")
    add("--output", required=True, metavar="DIR", type=Path, help="everything goes there")
    add("--cores", type=int, default=os.cpu_count(), metavar="N", help="default: all")
    add("--tokens", type=int, metavar="N", help="of a completion; default: as in the experiment")
    add("--layers", type=int, default=28, metavar="N", help="28 is the full size (default)")
    add("config", nargs="*", metavar="KEY=VALUE", help="keys of config.yaml, after --")
    return parser.parse_args()


def sources(subject: dict[str, Any], hub: Hub, folder: Path, layers: int) -> None:
    """Make what the experiment fetches, where it is not there yet, and put it on the hub."""
    shapes = make_pair.shapes(layers)
    for source in subject["models"].values():
        here = folder / source["repo"].replace("/", "--")
        if not (here / "manifest.json").is_file():
            weight, dtype, tied = STORED[source["repo"]]
            make_pair.write_model(here, weight, 0, shapes, dtype, tied, layers)
        write_tokenizer(here)
        files = [path for path in here.iterdir() if path.name != "manifest.json"]
        put(hub, "models", source, {path.name: mapped(path) for path in files})
    for source in subject["benchmarks"].values():
        rows = range(PROBLEMS)
        table = pd.DataFrame({
            "id": [str(i) for i in rows],
            "problem": [f"Problem {i}. {TEXT}" for i in rows],
            "answer": [str(i) for i in rows],
        })  # fmt: skip
        put(hub, "datasets", source, {source["file"]: table.to_parquet()})


def put(hub: Hub, kind: str, source: dict[str, Any], files: dict[str, Any]) -> None:
    """A repository at the commit that the experiment names."""
    name = f"{kind}/{source['repo']}"
    hub.repositories[name] = files
    for content in files.values():
        hub.hashes(content)  # now: a client does not wait for those of gigabytes
    hub.commits[name] = source["revision"]


def on_this_machine(subject: dict[str, Any], tokens: int | None) -> dict[str, Any]:
    """The experiment as it can be run here: sampled on the CPU, with shorter completions."""
    sampling = subject["sampling"]
    if sampling["device"] == "cuda":
        sampling |= {"device": "cpu", "compute_dtype": "float32", "threads": os.cpu_count(),
                     "mem_mb": 14000, "max_num_seqs": 64, "max_model_len": 2048}  # fmt: skip
    sampling["max_tokens"] = min(sampling["max_tokens"], tokens or 1024)
    return subject


def watch(folder: Path, largest: list[int], stop: threading.Event) -> None:
    """Keep the largest number of bytes that the folder's files have held together."""
    while not stop.wait(5):
        done = subprocess.run(
            ["du", "-s", "--block-size=1", folder], capture_output=True, text=True
        )
        largest[0] = max(largest[0], int(done.stdout.split()[0] if done.stdout else 0))


def timings(results: Path) -> pd.DataFrame:
    """What every job used, a row a job: its rule's folder, seconds, seconds of CPU, MB."""
    rows = []
    for path in sorted((results / "timings").rglob("*.tsv")):
        line = pd.read_csv(path, sep="\t").iloc[0]
        what = path.relative_to(results / "timings").with_suffix("").parts[0]
        rows.append((what, line["s"], line["cpu_time"], line["max_rss"]))
    return pd.DataFrame(rows, columns=["of", "wall", "cpu", "rss"])


def main() -> None:
    given = parse()
    subject = yaml.safe_load((ROOT / f"experiments/{given.experiment}.yaml").read_text())
    run = given.output.resolve() / "run"
    (run / "experiments").mkdir(parents=True, exist_ok=True)
    own = on_this_machine(subject, given.tokens)
    (run / f"experiments/{given.experiment}.yaml").write_text(json.dumps(own))
    largest, stop = [0], threading.Event()
    with running_hub() as hub:
        sources(subject, hub, given.output / "hub", given.layers)
        threading.Thread(target=watch, args=(run, largest, stop), daemon=True).start()
        began = time.monotonic()
        done = subprocess.run(
            ["snakemake", "--snakefile", ROOT / "Snakefile", "--directory", run, "--cores",
             str(given.cores), "--config", f"experiment={given.experiment}", *given.config],
            env=os.environ | {"HF_ENDPOINT": hub.url, "HF_HOME": str(run / "hf")},
        )  # fmt: skip
        wall = time.monotonic() - began
        stop.set()
    jobs = timings(run / "results" / given.experiment)
    print("| jobs of | number | wall s, median | largest | CPU s, median | largest memory, GB |")
    print("|---|---|---|---|---|---|")
    for what, lines in jobs.groupby("of"):
        print(
            f"| {what} | {len(lines)} | {lines['wall'].median():.0f} | {lines['wall'].max():.0f} |"
            f" {lines['cpu'].median():.0f} | {lines['rss'].max() / 1000:.1f} |"
        )
    print(f"wall {wall / 60:.0f} min; at most {largest[0] / 1e9:.1f} GB on the disk")
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
