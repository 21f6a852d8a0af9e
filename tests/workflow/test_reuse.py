"""The workflow used from another folder, and by another workflow as a module.

What ships with it is found beside its Snakefile; results, config.yaml, experiments and data that
are the user's are found in the working directory.
"""

import shutil

import pandas
import pytest
import yaml
from workflow_case import configure, copy_case, make_case, planned, snakemake

DELTA = "results/tiny/delta/rl/manifest.json"
PROBLEMS = "results/tiny/benchmarks/tiny3.parquet"
TINY = {
    "experiment": "tiny", "ranks": [2], "further_ranks": [], "other": ["copy"],
    "samples": 2, "maj_k": [1, 2],
    "controls": ["other"],
}  # fmt: skip


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The workflow in a folder whose name every shell command has to quote."""
    return make_case(tmp_path_factory.mktemp("reuse") / """a user's "clone" """.strip())


@pytest.fixture
def elsewhere(tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return folder


def content(clone):
    """Every file and folder of a clone, and files' times, but what Python and Snakemake leave."""
    return {
        path.relative_to(clone): path.stat().st_mtime_ns if path.is_file() else None
        for path in clone.rglob("*")
        if not {"__pycache__", ".snakemake"} & set(path.parts)
    }


def module(clone, config: dict, name: str = "lowrank", more: str = "") -> str:
    """What another workflow's Snakefile says to use the clone."""
    lines = [f"module {name}:", f"    snakefile: {str(clone / 'Snakefile')!r}",
             f"    config: {config!r}", *([f"    {more}"] if more else [])]  # fmt: skip
    return "\n".join([*lines, "", f"use rule * from {name} as {name}_*", "", ""])


# Another folder.


def test_results_go_where_it_is_run_and_nothing_into_the_clone(clone, elsewhere, tmp_path):
    before = content(clone)
    asked = ("--snakefile", str(clone / "Snakefile"), "--cores", "2", DELTA)
    snakemake(tmp_path, "--directory", str(elsewhere), *asked)
    assert (elsewhere / DELTA).is_file()
    assert content(clone) == before
    assert not (tmp_path / "results").exists()
    # The same from inside the folder, by a clone that lies in another place.
    moved = make_case(tmp_path / "moved")
    asked = ("--snakefile", str(moved / "Snakefile"), "--cores", "2", DELTA)
    assert "Nothing to be done" in snakemake(elsewhere, *asked).stdout


@pytest.mark.parametrize("where", ["relative", "absolute"])
def test_results_go_to_the_folder_that_the_configuration_names(clone, elsewhere, tmp_path, where):
    root = str(tmp_path / "disk") if where == "absolute" else "deep/out"
    asked = ("--snakefile", str(clone / "Snakefile"), "--config", f"results={root}", "--cores", "2")
    plan = snakemake(elsewhere, *asked, "--dry-run", "--printshellcmds").stdout
    assert "results/tiny" not in plan
    assert f"--store {root}/completions " in plan
    target = f"{root}/tiny/delta/rl/manifest.json"
    snakemake(elsewhere, *asked, target)
    assert (elsewhere / root / "tiny/logs/delta/rl.log").is_file()
    assert (elsewhere / root / "tiny/timings/delta/rl.tsv").is_file()
    assert not (elsewhere / "results").exists()
    assert "Nothing to be done" in snakemake(elsewhere, *asked, target).stdout


def test_what_was_made_in_a_clone_is_not_made_again_from_another(clone, tmp_path):
    first = copy_case(clone, tmp_path / "first")
    snakemake(first, "--cores", "1", PROBLEMS)
    asked = ("--snakefile", str(clone / "Snakefile"), "--directory", str(first), "--cores", "1")
    assert "Nothing to be done" in snakemake(tmp_path, *asked, PROBLEMS).stdout


def test_the_whole_plan_is_the_same_from_anywhere(clone, elsewhere):
    at_home = planned(clone)
    assert len(at_home) > 15
    assert planned(elsewhere, "--snakefile", str(clone / "Snakefile")) == at_home


@pytest.mark.parametrize("linked", [".", "Snakefile"])
def test_a_link_to_the_clone_or_to_its_snakefile_will_do(clone, elsewhere, linked):
    (elsewhere / "link").symlink_to(clone / linked)
    snakefile = "link" if linked == "Snakefile" else "link/Snakefile"
    assert planned(elsewhere, "--snakefile", snakefile, PROBLEMS) == {"fetch_benchmark"}


def test_the_working_directory_comes_first(clone, elsewhere):
    """Its config.yaml key by key, its experiment of the same name, its data of the same path."""
    mine = yaml.safe_load((clone / "experiments/tiny.yaml").read_text())
    mine["references"] = ["pretrained", "sft", "rl"]
    (elsewhere / "experiments").mkdir()
    (elsewhere / "experiments/tiny.yaml").write_text(yaml.safe_dump(mine))
    (elsewhere / "config.yaml").write_text("{}")
    configure(elsewhere, ranks=[3])
    there = ("--snakefile", str(clone / "Snakefile"))
    grades = {job for job in planned(elsewhere, *there) if job.startswith("grade ")}
    models = ("pretrained", "sft", "rl", "r3-copy", "r0-copy")
    assert grades == {f"grade model={model}" for model in models}

    (elsewhere / "resources").mkdir()
    own = '{"problem": "1+1+1", "answer": "123"}\n'
    (elsewhere / "resources/tiny.jsonl").write_text(own)
    snakemake(elsewhere, *there, "--cores", "1", PROBLEMS)
    assert pandas.read_parquet(elsewhere / PROBLEMS)["problem"].tolist() == ["1+1+1"]


def test_a_path_that_is_nowhere_is_refused_before_anything_runs(clone, elsewhere):
    mine = yaml.safe_load((clone / "experiments/tiny.yaml").read_text())
    mine["models"]["rl"]["path"] = "models/none"
    (elsewhere / "experiments").mkdir()
    (elsewhere / "experiments/mine.yaml").write_text(yaml.safe_dump(mine))
    asked = ("--snakefile", str(clone / "Snakefile"), "--config", "experiment=mine", "--cores", "1")
    said = snakemake(elsewhere, *asked, check=False).stdout
    assert "error: experiments/mine.yaml: models.rl.path: models/none: no such file" in said
    assert str(elsewhere) in said
    assert str(clone) in said
    assert not (elsewhere / "results").exists()


# A module of another workflow.


def test_two_experiments_in_one_workflow(clone, elsewhere):
    """Each has its own configuration, names and place; the outer workflow adds and changes."""
    more = {
        "experiment": "tiny", "ranks": [4], "further_ranks": [], "maj_k": [1],
        "serve_as": ["adapter"], "controls": ["other"],
    }  # fmt: skip
    (elsewhere / "Snakefile").write_text(
        module(clone, TINY)
        + module(clone, more, name="second", more='prefix: "deep/second"')
        + "use rule fetch_model from second as second_fetch_model with:\n"
        "    threads: 2\n\n"
        "rule both:\n    default_target: True\n"
        "    input:\n        rules.lowrank_all.input, rules.second_all.input,\n"
    )
    plan = snakemake(elsewhere, "--cores", "2", "--dry-run", "--printshellcmds").stdout
    assert plan.count("rule lowrank_sample:") == 4  # sft, rl, r2-copy, r0-copy
    assert plan.count("rule second_sample:") == 4  # sft, rl, r4-copy-adapter, r0-copy
    # Building what the adapter is served on, sampling both, and reading both.
    assert plan.count("--adapter deep/second/results/tiny/adapters/rl/r4-padded") == 3
    assert "--results deep/second/results/tiny --output deep/second/results/tiny/report" in plan

    targets = (PROBLEMS, "deep/second/results/tiny/models/rl/manifest.json")
    said = snakemake(elsewhere, "--cores", "2", *targets).stdout
    assert "threads: 2" in said
    assert all((elsewhere / target).is_file() for target in targets)
    assert "Nothing to be done" in snakemake(elsewhere, "--cores", "2", *targets).stdout
    # Snakemake's own report introduces what the module made.
    snakemake(elsewhere, "--report", "overview.html", *targets)
    assert "low-rank" in (elsewhere / "overview.html").read_text()


def test_rules_keep_their_names_if_the_outer_workflow_likes(clone, elsewhere):
    text = module(clone, TINY).replace(" as lowrank_*", "")
    (elsewhere / "Snakefile").write_text(text)
    assert planned(elsewhere) == planned(clone)


def test_what_is_wrong_with_a_modules_configuration_names_the_module(clone, elsewhere):
    (elsewhere / "Snakefile").write_text(module(clone, TINY | {"ranks": [0]}))
    said = snakemake(elsewhere, "--dry-run", check=False).stdout
    assert "error: config of module lowrank: ranks[0]: is 0, must be at least 1" in said


def test_two_clones_in_one_workflow_are_refused(clone, elsewhere, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(clone, other, symlinks=True)
    both = module(clone, TINY) + module(other, TINY, name="second", more='prefix: "second"')
    (elsewhere / "Snakefile").write_text(both)
    said = snakemake(elsewhere, "--dry-run", check=False).stdout
    assert f"error: {other}: this run already uses the workflow in {clone}" in said
