"""A copy of the workflow in a folder of its own, with an experiment of seconds, to run for real."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
# The models that the experiment `tiny` samples.
MODELS = ("sft", "rl", "r2-copy", "r0-copy")
SOURCES = ("Snakefile", "config.yaml", "scripts", "workflow", "envs", "experiments", "resources")


def make_case(folder: Path, **config: object) -> Path:
    """Copy the sources to `folder` and add the experiment `tiny`: mini with 3 problems."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy2(ROOT / name, folder / name)
    (folder / "profiles").symlink_to("workflow/profiles")
    problems = (ROOT / "resources/mini/problems.jsonl").read_text().splitlines(keepends=True)
    (folder / "resources/tiny.jsonl").write_text("".join(problems[:3]))
    tiny = yaml.safe_load((ROOT / "experiments/mini.yaml").read_text())
    tiny["benchmarks"] = {
        "tiny3": {"label": "3", "path": "resources/tiny.jsonl", "answer_type": "integer"}
    }
    tiny["references"] = ["sft", "rl"]
    tiny["sampling"] |= {"max_num_seqs": 16, "mem_mb": 3000}
    (folder / "experiments/tiny.yaml").write_text(yaml.safe_dump(tiny))
    small = {
        "experiment": "tiny", "ranks": [2], "further_ranks": [], "other": ["copy"],
        "samples": 2, "maj_k": [1, 2],
        "divergence": {"samples": 1, "tokens": 40}, "locate": False, "controls": ["other"],
    }  # fmt: skip
    configure(folder, **(small | config))
    return folder


def configure(folder: Path, **changes: object) -> None:
    """Change keys of the case's config.yaml; None removes one."""
    path = folder / "config.yaml"
    config = yaml.safe_load(path.read_text()) | changes
    path.write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))


def copy_case(case: Path, folder: Path) -> Path:
    """The case with its results and Snakemake's memory, times kept, in another folder."""
    shutil.copytree(case, folder, symlinks=True)
    return folder


def snakemake(
    folder: Path,
    *arguments: str,
    check: bool = True,
    environment: dict[str, str | None] | None = None,
    program: tuple[str, str] = ("-m", "snakemake"),
) -> subprocess.CompletedProcess:
    """Run Snakemake in a case as a user would; standard error is joined to standard output.

    environment: on top of this process's; None takes a variable out.
    """
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    merged = os.environ | path | (environment or {})
    done = subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=folder,
        env={name: value for name, value in merged.items() if value is not None},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if check and done.returncode:
        raise AssertionError(f"snakemake {' '.join(arguments)} failed:\n{done.stdout}")
    return done


def planned(folder: Path, *arguments: str) -> set[str]:
    """The jobs a run would do now, as `rule` or `rule model=rl part=1-of-1`."""
    said = snakemake(folder, "--cores", "2", "--dry-run", *arguments).stdout
    jobs = set()
    for block in re.split(r"\n(?=(?:local)?rule )", said):
        rule = re.match(r"(?:local)?rule (\w+):", block)
        # describe goes with every change of the question: it writes down the question itself.
        if rule is None or rule[1] in ("all", "describe"):
            continue
        wildcards = re.search(r"^ {4}wildcards: (.*)$", block, re.MULTILINE)
        pairs = wildcards[1].split(", ") if wildcards else []
        named = [pair for pair in pairs if not pair.startswith(("experiment=", "benchmark="))]
        jobs.add(" ".join([rule[1], *named]))
    return jobs


def results(case: Path) -> dict[str, bytes]:
    """Content of every file below results/tiny but logs and timings."""
    root = case / "results/tiny"
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.relative_to(root).parts[0] not in ("logs", "timings")
    }


def sampled_anew(models=MODELS) -> set[str]:
    """The jobs that follow when the samples of models are made again."""
    jobs = {"compare compared=tiny3", "report"}.union(
        *(
            {f"sample model={m} part=1-of-1", f"grade model={m}", f"metrics model={m}"}
            for m in models
        )
    )
    # What is read are the derivative's.
    return jobs | {"read_derivative"} | read_anew() if "rl" in models else jobs


def read_anew(models=MODELS) -> set[str]:
    """The jobs that follow when the derivative's completions are read by models again."""
    return {"divergence_metrics", "report", *(f"divergence model={model}" for model in models)}


def engines(case: Path) -> int:
    """How many engines were started by all jobs of a case so far."""
    logs = (case / "results").rglob("logs/samples/*.log.all")
    return sum(log.read_text().count("engine up after") for log in logs)
