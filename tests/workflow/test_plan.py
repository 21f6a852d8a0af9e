"""What is planned, and refused, before anything runs."""

import re

import pytest
from workflow_case import ROOT, make_case, snakemake


def test_the_post_is_planned_without_gpu_and_network(tmp_path):
    case = make_case(tmp_path / "case")
    # Nothing listens there: a plan that asked a hub would fail.
    planned_post = snakemake(
        case, "--configfile", "config.yaml", "--config", "experiment=deepscaler",
        "ranks=[16,64,256]", "other=[copy,keep]", "samples=64",
        "maj_k=[8,16,32]", "--dry-run",
        environment={"HF_ENDPOINT": "http://127.0.0.1:9", "CUDA_VISIBLE_DEVICES": ""},
    ).stdout  # fmt: skip
    stats = {}
    for line in planned_post.split("Job stats:")[1].splitlines()[3:]:
        if len(line.split()) != 2:
            break
        stats[line.split()[0]] = int(line.split()[1])
    assert stats == {
        "fetch_weights": 4,  # one of the models in two shards
        "fetch_model": 3,
        "fetch_benchmark": 2,
        "delta_svd": 2,
        "delta_statistics": 2,
        "build_adapter": 3,
        "build_variant": 7,  # six, and rank 0 with everything else copied
        "sample": 9,  # models: one start of the engine each, for both benchmarks
        "grade": 9 * 2,
        "metrics": 9 * 2,
        "compare": 2,
        "read_derivative": 1,
        "divergence": 9,
        "divergence_metrics": 2,
        "describe": 1,
        "report": 1,
        "all": 1,
        "total": 85,
    }
    readme = (ROOT / "README.md").read_text()
    assert f"- {stats['total']} jobs, {stats['sample']} of them sampling" in readme


def test_the_picture_of_the_rules_is_current(tmp_path):
    (tmp_path / "resources").symlink_to(ROOT / "resources")
    now = snakemake(
        tmp_path, "--snakefile", str(ROOT / "Snakefile"), "--rulegraph", "mermaid-js",
        "--config", "locate={samples: 1, tokens: 512}",
    ).stdout  # fmt: skip
    names = dict(re.findall(r"(id\d+)\[(\w+)\]", now))
    arrows = {(names[a], names[b]) for a, b in re.findall(r"(id\d+) --> (id\d+)", now)}
    page = (ROOT / "docs/architecture.md").read_text()
    shown = set(re.findall(r"^    (\w+) --> (\w+)$", page, re.MULTILINE))
    assert shown == {(one, other) for one, other in arrows if other != "all"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rnaks": [2]}, "error: config.yaml: unknown key rnaks"),
        ({"ranks": [0]}, "error: config.yaml: ranks[0]: is 0, must be at least 1"),
        ({"maj_k": [3]}, "error: config.yaml: maj_k has 3, more than samples: 2"),
    ],
)
def test_a_wrong_configuration_stops_before_anything_runs(tmp_path, change, said):
    case = make_case(tmp_path / "case", **change)
    done = snakemake(case, "--cores", "2", check=False)
    assert done.returncode != 0
    assert not (case / "results").exists()
    (line,) = [line for line in done.stdout.splitlines() if not line.startswith("Using ")]
    assert line.startswith(said)
