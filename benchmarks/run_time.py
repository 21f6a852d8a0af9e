"""Where the time of `make run` goes: install, start of engines, tokens, the rest.

The sources are copied to a temporary folder, the environment is made there by `make`, and the
embedded experiment is run there by Snakemake, so nothing that exists is used or touched. With
--skip-install the environment that runs this program is used.

Printed: seconds on the wall of install and workflow, and what the cores did in the workflow's
seconds times cores. A job counts its seconds times one core. Engines are up when their job's log
says so; tokens are counted from there to the last one; the rest of these jobs is Python's start,
prompts and tables. Left are jobs that keep no timing (fetching, metrics, the report), Snakemake's
own work, and waiting.

--avx2 hides from torch, oneDNN, MKL and vLLM what an x86 CPU has beyond AVX2. vLLM then loads its
AVX2 build. It does not make a new CPU an old one: clock, caches and memory stay.

Example, on an idle machine:
  python benchmarks/run_time.py --cores 2
  python benchmarks/run_time.py --cores 2 --skip-install --avx2
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEFT_BEHIND = (".git", ".venv", ".snakemake", "results", "__pycache__", ".*_cache")
UP, MADE = re.compile(r"engine up after ([\d.]+) s"), re.compile(r"(\d+) tokens after ([\d.]+) s")
# Where the engine starts, vLLM is not yet imported: its choice of kernels follows torch's word.
STARTED = "    prepare_environment(serving.device, serving.threads)\n"
HIDDEN = """    import torch.cpu
    found = torch.cpu.get_capabilities()
    less = {name: has and not name.startswith(("avx512", "avx10", "amx"))
            for name, has in found.items()}
    torch.cpu.get_capabilities = lambda: less
"""
AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--cores", type=int, default=os.cpu_count(), metavar="N", help="default: all")
    add("--skip-install", action="store_true", help="use this program's own environment")
    add("--avx2", action="store_true", help="compute as a CPU with no more than AVX2 would")
    return parser.parse_args()


def timed(command: list[str], folder: Path, environment: dict[str, str]) -> float:
    """Seconds on the wall that a command took; its output is shown. Exits where it fails."""
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environment)
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit status {done.returncode}")
    return time.monotonic() - began


def hide_newer_instructions(folder: Path) -> None:
    """Change the copied engine so that vLLM finds AVX2 and no more."""
    engine = folder / "scripts/lowrank/sampling/engine.py"
    text = engine.read_text()
    if text.count(STARTED) != 1:
        sys.exit(f"{engine}: its start is not where this program expects it")
    engine.write_text(text.replace(STARTED, STARTED + HIDDEN))


def job_seconds(results: Path) -> dict[str, float]:
    """Seconds of every job that keeps a timing, by its path below timings/, without suffix."""
    timings = results / "timings"
    seconds = {}
    for path in sorted(timings.rglob("*.tsv")):
        heads, values = (line.split("\t") for line in path.read_text().splitlines()[:2])
        name = str(path.relative_to(timings).with_suffix(""))
        seconds[name] = float(values[heads.index("s")])
    return seconds


def parts(results: Path, wall: float, cores: int) -> list[tuple[str, float, str]]:
    """(part, seconds of a core, remark) of a workflow's `wall` seconds on `cores` cores."""
    jobs = job_seconds(results)
    sampling = {name: s for name, s in jobs.items() if name.startswith("samples/")}
    starts = making = tokens = 0.0
    for name in sampling:
        log = (results / f"logs/{name}.log").read_text()
        up, made = UP.search(log), MADE.search(log)
        if up is None or made is None:
            sys.exit(f"{results}/logs/{name}.log: says no start of an engine or no tokens")
        starts += float(up[1])
        tokens += int(made[1])
        making += float(made[2])
    others = sum(jobs.values()) - sum(sampling.values())
    return [
        (f"start of {len(sampling)} engines", starts, ""),
        (f"{tokens:,.0f} tokens", making, f"{tokens / making:,.0f} tokens/s a core"),
        ("rest of the sampling jobs", sum(sampling.values()) - starts - making, ""),
        (f"{len(jobs) - len(sampling)} other jobs", others, ""),
        ("what is left", cores * wall - sum(jobs.values()), ""),
    ]


def main() -> None:
    given = parse()
    environment = dict(os.environ)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "sources"
        shutil.copytree(ROOT, folder, symlinks=True, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        if given.avx2:
            hide_newer_instructions(folder)
            environment |= AVX2
        programs = Path(sys.executable).parent
        install = 0.0
        if not given.skip_install:
            install = timed(["make", ".venv/.ready"], folder, environment)
            programs = folder / ".venv/bin"
        environment["PATH"] = f"{programs}:{environment['PATH']}"
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run = ["snakemake", "--cores", str(given.cores), "--quiet", "all"]
        wall = timed(run, folder, environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        rows = parts(folder / "results/mini", wall, given.cores)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{'install' if install else 'no install':28} {install:8.1f} s")
    print(f"{'workflow':28} {wall:8.1f} s, {cpu:.1f} s of CPU; {given.cores} cores had")
    for part, seconds, remark in rows:
        print(
            f"  {part:26} {seconds:8.1f} s {seconds / wall / given.cores:5.0%}  {remark}".rstrip()
        )


if __name__ == "__main__":
    main()
