"""The factorisation against float64 LAPACK; ledger; going on after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from conftest import HEAD, PLANTED, config, projections, random_weights, write_checkpoint
from safetensors.torch import load_file, save_file

from lowrank.delta import factor
from lowrank.delta.factor import basis_file, difference, factor_pair, read_sigma
from lowrank.delta.statistics import write_statistics
from lowrank.errors import InputError
from lowrank.models.checkpoint import open_checkpoint
from lowrank.models.manifest import write_manifest
from lowrank.variants.adapter import write_adapter
from lowrank.variants.merge import write_variant

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture(scope="session")
def delta(trio, tmp_path_factory):
    """The delta base -> derivative of the trio, factored once."""
    folder = tmp_path_factory.mktemp("delta")
    factor_pair(trio.base, trio.derivative, folder)
    write_statistics(folder, trio.base, trio.derivative)
    return folder


def test_singular_values_of_the_trio(trio, delta):
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    for name in projections():
        D = difference(base, derivative, name)
        exact = np.linalg.svd(D.double().numpy(), compute_uv=False)
        np.testing.assert_allclose(read_sigma(delta, name), exact, rtol=1e-6)
        # What was planted stands clear of the noise.
        assert exact[PLANTED - 1] > 10 * exact[PLANTED]


def test_every_column_is_explained(trio, delta, tmp_path):
    shutil.copytree(delta, tmp_path, dirs_exist_ok=True)
    factored = (tmp_path / "manifest.json").read_bytes()
    write_statistics(tmp_path, trio.base, trio.derivative, details=True)
    assert (tmp_path / "manifest.json").read_bytes() == factored
    explained = json.loads((tmp_path / "statistics.json").read_text())["columns"]
    for table, columns in explained.items():
        assert list(columns) == list(pandas.read_parquet(tmp_path / f"{table}.parquet").columns)
    for table, left in (("spectrum", 1), ("summary", 8)):
        plain = pandas.read_parquet(delta / f"{table}.parquet")
        assert list(plain.columns) == list(explained[table])[:-left]
        pandas.testing.assert_frame_equal(
            plain, pandas.read_parquet(tmp_path / f"{table}.parquet")[plain.columns]
        )
    # The null has the norm of D and none of its few directions.
    with_null = pandas.read_parquet(tmp_path / "spectrum.parquet")
    last = with_null.groupby("tensor").tail(1)
    assert last.energy_kept_shuffled.tolist() == pytest.approx([1] * len(last))
    third = with_null[with_null["index"] == PLANTED - 1]
    assert (third.energy_kept > 0.9).all()
    assert (third.energy_kept_shuffled < 0.25).all()
    # Alignment against whole factorisations.
    summary = pandas.read_parquet(tmp_path / "summary.parquet").set_index("tensor")
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    for name in ("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.down_proj.weight"):
        W, D = base.read(name), difference(base, derivative, name)
        (U, _, Vh), (U_W, _, Vh_W) = (torch.linalg.svd(M, full_matrices=False) for M in (D, W))
        left, right = U[:, :16].T @ U_W[:, :16], Vh[:16] @ Vh_W[:16].T
        row = summary.loc[name]
        assert row.overlap_left == pytest.approx(float(left.norm()) ** 2 / 16, rel=1e-3)
        assert row.overlap_right == pytest.approx(float(right.norm()) ** 2 / 16, rel=1e-3)
        assert row.unchanged == pytest.approx(float((D == 0).double().mean()))
        assert row.tiny == pytest.approx(float((D.abs() < 1e-5).double().mean()))


def test_subtraction_is_in_float32(trio):
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    name = "model.layers.0.mlp.up_proj.weight"
    stored = {}
    for file in trio.derivative.glob("*.safetensors"):
        stored |= load_file(file)
    expected = stored[name] - load_file(trio.base / "model.safetensors")[name].float()
    assert torch.equal(difference(base, derivative, name), expected)


def test_tables(trio, delta):
    spectrum = pandas.read_parquet(delta / "spectrum.parquet")
    summary = pandas.read_parquet(delta / "summary.parquet").set_index("tensor")
    assert set(summary.index) == set(projections())
    for name, shape in projections().items():
        rows = spectrum[spectrum.tensor == name]
        assert rows["index"].tolist() == list(range(min(shape)))
        assert rows.sigma.is_monotonic_decreasing
        assert summary.frobenius[name] == pytest.approx(np.sqrt((rows.sigma**2).sum()))
    W = load_file(trio.base / "model.safetensors")["model.layers.0.mlp.up_proj.weight"].float()
    row = summary.loc["model.layers.0.mlp.up_proj.weight"]
    assert row.relative_frobenius == pytest.approx(row.frobenius / float(W.norm()))
    # Random weights have no direction that stands out: the hardest case for sigma_1_base.
    assert row.sigma_1_ratio == pytest.approx(
        row.sigma_1 / float(torch.linalg.matrix_norm(W, 2)), rel=0.03
    )


@pytest.mark.parametrize(("older", "newer"), [("grandparent", "base"), ("base", "derivative")])
def test_the_ledger_accounts_for_every_parameter(trio, tmp_path, older, newer):
    models = [open_checkpoint(getattr(trio, name)) for name in (older, newer)]
    factor_pair(models[0].folder, models[1].folder, tmp_path)
    ledger = pandas.read_parquet(tmp_path / "ledger.parquet")
    assert ledger.base_parameters.sum() == models[0].parameters
    assert ledger.derivative_parameters.sum() == models[1].parameters
    assert set(ledger.tensor) == set(models[0].tensors) | set(models[1].tensors)
    assert set(ledger[ledger.fate == "factored"].tensor) == set(projections())
    head = ledger.set_index("tensor").loc[HEAD]
    assert ("tied" in head.note) == models[0].tied


def changed(tmp_path, trio, change):
    """The derivative with its weights changed by a function of their dict."""
    weights = {}
    for file in sorted(trio.derivative.glob("*.safetensors")):
        weights |= load_file(file)
    change(weights)
    return write_checkpoint(tmp_path / "changed", weights, config(False, "float32"))


NAME = "model.layers.1.self_attn.k_proj"


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.pop(f"{NAME}.weight"),
        lambda w: w.pop(f"{NAME}.bias"),
        lambda w: w.update({f"{NAME}.weight": torch.ones(64, 64)}),
        lambda w: w.update({f"{NAME}.lora_magnitude": torch.ones(3)}),
        lambda w: w.update({f"{NAME}.bias": torch.ones(65)}),
    ],
)
def test_tensors_without_a_counterpart_are_named(tmp_path, trio, change):
    folder = changed(tmp_path, trio, change)
    with pytest.raises(InputError, match=NAME.replace(".", r"\.")):
        factor_pair(trio.base, folder, tmp_path / "delta")
    factor_pair(trio.base, folder, tmp_path / "delta", leave_out=[f"{NAME}.*"])
    ledger = pandas.read_parquet(tmp_path / "delta" / "ledger.parquet").set_index("tensor")
    left_out = ledger[ledger.fate == "left out by configuration"]
    assert all(name.startswith(NAME) for name in left_out.index)
    assert len(left_out) >= 2


def test_another_number_of_vocabulary_rows_is_only_noted(tmp_path, trio):
    def pad(weights):
        for name in ("model.embed_tokens.weight", HEAD):
            weights[name] = torch.nn.functional.pad(weights[name], (0, 0, 0, 16))

    folder = changed(tmp_path, trio, pad)
    factor_pair(trio.base, folder, tmp_path / "delta")
    ledger = pandas.read_parquet(tmp_path / "delta" / "ledger.parquet").set_index("tensor")
    assert ledger.note[HEAD] == "shapes differ"
    assert ledger.base_shape[HEAD] == "128x128"
    assert ledger.derivative_shape[HEAD] == "144x128"


def test_identical_models_are_refused_before_any_work(trio, tmp_path):
    """The same checkpoint twice by mistake, or an adapter beside it that was never merged."""
    with pytest.raises(InputError, match=r"14 projections has the values .* a delta of zero"):
        factor_pair(trio.base, trio.base, tmp_path / "delta")
    assert not (tmp_path / "delta").exists()


def test_matrices_that_did_not_change_are_counted(trio, tmp_path, capsys):
    """A layer that training froze has a delta of zero and statistics that are all zero."""
    weights = load_file(trio.base / "model.safetensors")

    def freeze(changed):
        changed.update({n: weights[n].float() for n in projections() if "layers.0" in n})

    pair = trio.base, changed(tmp_path, trio, freeze)
    factor_pair(*pair, tmp_path / "delta")
    write_statistics(tmp_path / "delta", *pair, details=True)
    assert "7 of 14 matrices did not change" in capsys.readouterr().err
    summary = pandas.read_parquet(tmp_path / "delta" / "summary.parquet")
    frozen = summary[summary.layer == 0]
    zero = ["frobenius", "stable_rank", "entropy_rank", "rank_99", "rank_above_noise",
            "optimal_rank", "relative_frobenius", "aligned_energy"]  # fmt: skip
    assert (frozen[zero] == 0).all(axis=None)
    assert (frozen.unchanged == 1).all()
    assert summary.notna().all(axis=None)


def test_nan_stops_before_any_table(tmp_path, trio):
    folder = changed(tmp_path, trio, lambda w: w[f"{NAME}.weight"].fill_(float("nan")))
    with pytest.raises(InputError, match=rf"tensor {NAME}.weight holds 8192 NaN"):
        factor_pair(trio.base, folder, tmp_path / "delta")
    assert not (tmp_path / "delta" / "manifest.json").exists()


# --- going on


def factored_names(monkeypatch) -> list[str]:
    """Collects the names of the matrices that are really factored from now on."""
    names = []
    real = factor.write_tensors

    def counting(path, *rest):
        names.append(path.name.removesuffix(".safetensors"))
        return real(path, *rest)

    monkeypatch.setattr(factor, "write_tensors", counting)
    return names


def tables(folder):
    return [(folder / f"{n}.parquet").read_bytes() for n in ("spectrum", "summary", "ledger")]


def statistics(folder: Path, base: Path, derivative: Path) -> pandas.DataFrame:
    write_statistics(folder, base, derivative)
    return pandas.read_parquet(folder / "summary.parquet")


def test_finished_matrices_are_taken_over_and_damaged_ones_redone(
    trio, delta, tmp_path, monkeypatch
):
    names = factored_names(monkeypatch)
    folder = shutil.copytree(delta, tmp_path / "delta")
    first, second, third, *_ = sorted(projections())
    truncated = basis_file(folder, first)
    truncated.write_bytes(truncated.read_bytes()[:-1000])
    flipped = bytearray(basis_file(folder, second).read_bytes())
    flipped[-5] ^= 1
    basis_file(folder, second).write_bytes(flipped)
    basis_file(folder, third).unlink()
    with pytest.raises(InputError, match=f"{second}.safetensors: damaged .*; run delta_svd.py"):
        read_sigma(folder, second)
    (folder / "manifest.json").unlink()
    factor_pair(trio.base, trio.derivative, folder)
    assert names == [first, second, third]
    write_statistics(folder, trio.base, trio.derivative)
    assert tables(folder) == tables(delta)
    assert (folder / "manifest.json").read_bytes() == (delta / "manifest.json").read_bytes()


def test_other_weights_are_never_taken_for_finished(trio, delta, tmp_path, monkeypatch):
    """Only what changed is done again, in whatever files the weights lie now."""
    names = factored_names(monkeypatch)
    folder = shutil.copytree(delta, tmp_path / "delta")
    other = changed(tmp_path, trio, lambda w: w[f"{NAME}.weight"].mul_(2))
    factor_pair(trio.base, other, folder)
    assert names == [f"{NAME}.weight"]


def saved_over(checkpoint: Path, factor: float) -> None:
    """Save other values over a checkpoint's weights: files keep their names and sizes."""
    for file in checkpoint.glob("*.safetensors"):
        weights = load_file(file)
        save_file({n: w * factor for n, w in weights.items()}, file, metadata={"format": "pt"})


@pytest.mark.parametrize("side", ["base", "derivative"])
def test_weights_saved_over_the_old_ones_are_noticed(trio, tmp_path, monkeypatch, side):
    """Manifests still tell the old hashes: nothing is computed until they are made anew."""
    models = {
        name: shutil.copytree(getattr(trio, name), tmp_path / name)
        for name in ("base", "derivative")
    }
    for folder in models.values():
        write_manifest(folder, {"path": "somewhere"})
    pair, delta, adapter = tuple(models.values()), tmp_path / "delta", tmp_path / "r2"
    factor_pair(*pair, delta)
    before = statistics(delta, *pair).frobenius

    saved_over(models[side], 2)
    with pytest.raises(InputError, match=f"another {side} than .*: the values of .* differ"):
        write_adapter(delta, *pair, 2, adapter)
    with pytest.raises(InputError, match=f"another {side} than .*: the values of .* differ"):
        write_statistics(delta, *pair)
    assert not (adapter / "adapter_model.safetensors").exists()
    with pytest.raises(InputError, match=r"its content is not what manifest.json says"):
        factor_pair(*pair, delta)
    write_manifest(models[side], {"path": "somewhere"})
    names = factored_names(monkeypatch)
    factor_pair(*pair, delta)
    assert names == sorted(projections())
    after = statistics(delta, *pair).frobenius
    assert (after > 2 * before).all()
    write_adapter(delta, *pair, 2, adapter)

    # The old weights again: the adapter is of other weights.
    saved_over(models[side], 0.5)
    write_manifest(models[side], {"path": "somewhere"})
    if side == "base":
        with pytest.raises(InputError, match=r"another base than"):
            write_variant(*pair, tmp_path / "variant", trio.base, adapter, "copy")
        assert not (tmp_path / "variant" / "manifest.json").exists()


def test_a_killed_run_goes_on(trio, delta, tmp_path):
    """kill -9 after the third matrix; the next run does the rest and gives the same tables."""
    folder = tmp_path / "delta"
    slow = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "from lowrank.delta import factor\n"
        "real = factor.factor\n"
        "def slow(D):\n"
        "    time.sleep(0.2); return real(D)\n"
        "factor.factor = slow\n"
        "factor.factor_pair(*sys.argv[2:5])\n"
    )
    command = [sys.executable, "-c", slow, SCRIPTS, trio.base, trio.derivative, folder]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(folder.glob("unfinished/model*"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in folder.glob("unfinished/model*")}
    assert 3 <= len(done) < len(projections())
    assert not (folder / "manifest.json").exists()

    command = [sys.executable, SCRIPTS / "delta_svd.py", "--base", trio.base]
    command += ["--derivative", trio.derivative, "--output", folder]
    log = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert f"{len(done)} matrices finished earlier are taken over" in log
    assert "14/14 matrices" in log
    finished = {basis_file(folder, path.stem): time_ for path, time_ in done.items()}
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in finished.items())
    assert not (folder / "unfinished").exists()
    write_statistics(folder, trio.base, trio.derivative)
    assert tables(folder) == tables(delta)


def test_bases_of_tensors_that_left_the_pair_go(trio, delta, tmp_path):
    folder = shutil.copytree(delta, tmp_path / "delta")
    save_file({"a": torch.ones(1)}, folder / "basis" / "not-ours.safetensors")
    (folder / "basis" / ".model.layers.0.x.123.tmp.safetensors").write_bytes(b"half")
    factor_pair(trio.base, trio.derivative, folder, leave_out=["model.layers.1.*"])
    left = {path.name for path in (folder / "basis").iterdir()}
    assert left == {"not-ours.safetensors"} | {
        f"{name}.safetensors" for name in projections() if "layers.0" in name
    }


def test_the_manifest_says_what_was_compared(trio, delta):
    manifest = json.loads((delta / "manifest.json").read_text())
    assert set(manifest["matrices"]) == set(projections())
    assert set(manifest["derivative"]["weights"]) == {
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    }
    assert {"python", "torch", "numpy", "safetensors"} <= set(manifest["versions"])
    assert manifest["leave_out"] == []


def test_what_was_left_out_is_said_and_the_energies_are_those_of_the_changes(trio, tmp_path):
    pattern = "model.layers.1.*"
    factor_pair(trio.base, trio.derivative, tmp_path / "delta", leave_out=[pattern])
    manifest = json.loads((tmp_path / "delta" / "manifest.json").read_text())
    assert manifest["leave_out"] == [pattern]
    assert set(manifest["matrices"]) == {name for name in projections() if "layers.0" in name}
    ledger = pandas.read_parquet(tmp_path / "delta" / "ledger.parquet").set_index("tensor")
    base, derivative = open_checkpoint(trio.base), open_checkpoint(trio.derivative)
    for name in projections():
        exact = float(difference(base, derivative, name).double().norm()) ** 2
        assert ledger.squared_change[name] == pytest.approx(exact, rel=1e-6)


def test_pair_without_projections_is_refused(tmp_path):
    weights = random_weights(0, tied=False)
    plain = {name: w for name, w in weights.items() if "proj" not in name}
    folder = write_checkpoint(tmp_path / "m", plain, config(False, "float32"))
    with pytest.raises(InputError, match="no matrix of the 2 layers"):
        factor_pair(folder, folder, tmp_path / "delta")
