"""Weights are outputs: missing, cut, temporary; and what of a source is none of its content."""

import shutil

import pandas
import pytest
from workflow_case import (
    MODELS,
    configure,
    engines,
    make_case,
    planned,
    read_anew,
    results,
    sampled_anew,
    snakemake,
)


def test_what_else_lies_in_a_models_folder_runs_nothing(case):
    """Only what is taken from a folder is its source, whether the rest can be read or not."""
    folder = case / "resources/mini/sft"
    (folder / ".DS_Store").write_bytes(b"Bud1")
    (folder / "optimizer.pt").write_bytes(b"\x80\x04.")
    (folder / "checkpoint-100").mkdir()
    shutil.copy2(folder / "model.safetensors", folder / "checkpoint-100/model.safetensors")
    (folder / "secret").write_text("not for everybody")
    (folder / "secret").chmod(0)
    (folder / "locked").mkdir(0)
    assert planned(case) == set()
    (folder / "locked").chmod(0o700)
    with (folder / "generation_config.json").open("a") as file:
        file.write("\n")
    jobs = planned(case)
    assert "fetch_model model=sft" in jobs
    assert not any(job.startswith("fetch_weights") for job in jobs)


WEIGHTS = "results/tiny/models/rl/model-00002-of-00002.safetensors"


def test_weights_that_nothing_needs_may_be_missing(case):
    for model in ("models/rl/model-00002-of-00002", "variants/r2-copy/model", "models/sft/model"):
        (case / f"results/tiny/{model}.safetensors").unlink()
    (case / "results/tiny/adapters/rl/r2/adapter_model.safetensors").unlink()
    assert planned(case) == set()


def test_a_purged_variant_is_built_again_for_more_samples_only(case):
    """Of its completions only the missing ones are sampled."""
    started = engines(case)
    (case / "results/tiny/variants/r2-copy/model.safetensors").unlink()
    configure(case, samples=4)
    assert planned(case) == sampled_anew() | {"build_variant variant=r2-copy"}
    table = "results/tiny/samples/tiny3/r2-copy/1-of-1.parquet"
    old = pandas.read_parquet(case / table)
    snakemake(case, "--cores", "2", table)
    assert engines(case) == started + 1
    log = (case / "results/tiny/logs/samples/r2-copy-1-of-1.log").read_text()
    assert "12 completions, 6 of them to be sampled" in log
    rows = pandas.read_parquet(case / table)
    kept = rows[rows["sample"] < 2].reset_index(drop=True)
    pandas.testing.assert_frame_equal(kept, old)


def test_a_deleted_shard_is_fetched_when_something_needs_it(case):
    """Alone if it is asked for; else what depends on it is made again, byte for byte. No completion
    is sampled again."""
    before, started = results(case), engines(case)
    (case / WEIGHTS).unlink()
    (case / "results/tiny/variants/r2-copy/manifest.json").unlink()
    said = snakemake(case, "--dry-run").stdout
    assert f"{WEIGHTS}: gone, though fetched before." in said
    assert f"To have it back alone, first: snakemake --cores 1 {WEIGHTS}" in said
    assert planned(case, WEIGHTS) == {"fetch_weights model=rl file=model-00002-of-00002"}
    snakemake(case, "--cores", "1", WEIGHTS)
    lacking = {"build_variant variant=r2-copy"} | read_anew(["r2-copy"])
    assert planned(case) == lacking | sampled_anew(["r2-copy"])
    (case / WEIGHTS).unlink()
    assert planned(case) == {
        "fetch_weights model=rl file=model-00002-of-00002",
        "fetch_model model=rl",
        "delta_svd delta=rl",
        "delta_statistics delta=rl",
        "build_adapter delta=rl adapter=r2",
        "build_variant variant=r2-copy",
        "build_variant variant=r0-copy",
    } | sampled_anew(["rl", "r2-copy", "r0-copy"])
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert results(case) == before
    # Restored with the same content, it runs nothing.
    (case / WEIGHTS).unlink()
    snakemake(case, "--cores", "1", WEIGHTS)
    assert planned(case) == set()


@pytest.mark.parametrize(
    "file",
    [
        "variants/r2-copy/model",
        "adapters/rl/r2/adapter_model",
        "models/rl/model-00001-of-00002",
    ],
)
def test_a_file_that_was_cut_is_named_before_anything_runs(case, file):
    path = case / f"results/tiny/{file}.safetensors"
    content = path.read_bytes()
    path.unlink()  # a link, perhaps
    path.write_bytes(content[:1000])
    before = results(case)
    configure(case, samples=4)
    done = snakemake(case, "--cores", "2", check=False)
    assert done.returncode != 0
    assert f"error: results/tiny/{file}.safetensors: 1000 bytes, " in done.stdout
    assert results(case) == before
    path.unlink()
    assert planned(case)


def test_variants_may_be_temporary(finished, tmp_path):
    """Their weights go when they were sampled; results are the same, and nothing is left to do."""
    case = make_case(tmp_path / "case", keep_variants=False)
    snakemake(case, "--cores", "2")
    before, after = results(finished), results(case)
    gone = {name for name in before if name.startswith("variants/") and "safetensors" in name}
    assert len(gone) == 2
    assert after == {name: content for name, content in before.items() if name not in gone}
    assert planned(case) == set()
    started = engines(case)
    configure(case, maj_k=[1])
    compared = {"compare compared=tiny3", "report"}
    assert planned(case) == compared | {f"metrics model={model}" for model in MODELS}
    (case / "results/tiny/samples/tiny3/r2-copy/1-of-1.parquet").unlink()
    configure(case, maj_k=[1, 2])
    again = {"build_variant variant=r2-copy"} | read_anew(["r2-copy"])
    assert planned(case) == sampled_anew(["r2-copy"]) | again
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert results(case) == after


STATISTICS = {"delta_statistics delta=rl", "delta_statistics delta=sft", "report"}


def test_statistics_are_apart_from_what_adapters_are_built_from(case):
    """Fewer of them, or others, redo no adapter, no variant and no sample."""
    configure(case, details=False)
    assert planned(case) == STATISTICS
    started = engines(case)
    snakemake(case, "--cores", "2")
    assert engines(case) == started
    assert "shuffled" not in pandas.read_parquet(
        case / "results/tiny/delta/rl/spectrum.parquet"
    ).columns.str.cat(sep=" ")
    with (case / "scripts/lowrank/delta/spectra.py").open("a") as module:
        module.write("# edited\n")
    assert planned(case) == STATISTICS


def test_bases_that_are_gone_are_made_for_a_new_rank(case):
    basis = case / "results/tiny/delta/rl/basis"
    shutil.rmtree(basis)
    assert planned(case) == set()
    configure(case, ranks=[3])
    jobs = planned(case)
    assert {"delta_svd delta=rl", "build_adapter delta=rl adapter=r3"} <= jobs
    assert not any(job.startswith(("fetch", "delta_svd delta=sft")) for job in jobs)


def test_one_basis_that_is_gone_is_named(case):
    basis = case / "results/tiny/delta/rl/basis"
    lost = sorted(basis.glob("*.safetensors"))[0]
    lost.unlink()
    said = snakemake(case, "--dry-run", check=False).stdout
    assert f"error: {lost.relative_to(case)}: 0 bytes, manifest.json says " in said
    assert f"remove {basis.relative_to(case)}, and it is made again" in said


def test_all_outputs_can_be_deleted(case):
    """Of what is large, nothing stays."""
    snakemake(case, "--cores", "2", "--delete-all-output")
    assert list((case / "results").rglob("*.safetensors")) == []
