"""Nothing of anybody else is ever written to, replaced or removed; links lose nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import config, random_weights, write_checkpoint

from lowrank import claims
from lowrank.claims import check_output, claim, clear
from lowrank.delta.factor import factor_pair
from lowrank.errors import InputError
from lowrank.files import MARKER, sha256, whole_file, write_json, write_marker
from lowrank.metrics.evaluation import write_comparisons, write_metrics
from lowrank.models.hub import copy_model
from lowrank.models.problems import write_benchmark
from lowrank.variants.adapter import write_adapter
from lowrank.variants.merge import write_variant

SCRIPTS = Path(__file__).parents[1] / "scripts"


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder and what is in it, links followed."""
    return {str(p.relative_to(folder)): sha256(p) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def pair(trio, tmp_path):
    """Copies of a base and a derivative, to be endangered."""
    return [shutil.copytree(getattr(trio, n), tmp_path / n) for n in ("base", "derivative")]


@pytest.fixture
def programs(pair, tmp_path):
    """Every program that fills a folder, as a function of it; one input of each is the base."""
    base, derivative = pair
    delta = tmp_path / "delta"
    factor_pair(base, derivative, delta)
    return {
        "fetch_model": lambda out: copy_model(base, out),
        "delta_svd": lambda out: factor_pair(base, derivative, out),
        "build_adapter": lambda out: write_adapter(delta, base, derivative, 2, out),
        "build_variant": lambda out: write_variant(base, derivative, out, base),
    }


NAMES = ("fetch_model", "delta_svd", "build_adapter", "build_variant")


@pytest.mark.parametrize("name", NAMES)
def test_no_program_touches_an_input(programs, pair, tmp_path, name):
    base = pair[0]
    (tmp_path / "link").symlink_to(base)
    before = contents(tmp_path)
    for output, what in (
        (base, "is the input"),
        (base / ".." / "base", "is the input"),
        (tmp_path / "link", "is the input"),
        (base / "inside", "lies in the input"),
        (tmp_path / "link" / "deep" / "inside", "lies in the input"),
        (tmp_path, "holds the input"),
    ):
        with pytest.raises(InputError, match=what):
            programs[name](output)
        assert contents(tmp_path) == before


@pytest.mark.parametrize("name", NAMES)
def test_what_somebody_else_put_there_stays(programs, tmp_path, name):
    """Files under our names are refused, others left alone; what was edited is refused, too."""
    make, output = programs[name], tmp_path / "out"
    written = {
        "fetch_model": "config.json",
        "delta_svd": "manifest.json",
        "build_adapter": "adapter_model.safetensors",
        "build_variant": "model.safetensors",
    }[name]
    output.mkdir()
    (output / "notes.txt").write_text("mine")
    (output / written).write_text("of another tool")
    before = contents(output)
    with pytest.raises(InputError, match=rf"{written}: .*is not ours; it is left as it is"):
        make(output)
    assert contents(output) == before
    (output / written).unlink()
    make(output)
    make(output)  # over what it wrote itself
    assert (output / "notes.txt").read_text() == "mine"
    (output / written).write_text("edited")
    before = contents(output)
    with pytest.raises(InputError, match=rf"{written}: .*was changed since it was written"):
        make(output)
    assert contents(output) == before


@pytest.mark.parametrize(
    "name", ["consolidated.safetensors", "pytorch_model.bin", "adapter_config.json", "vocab.json"]
)
def test_what_a_loader_would_read_with_ours_is_refused(programs, tmp_path, name):
    for program in ("fetch_model", "build_variant"):
        output = tmp_path / program
        programs[program](output)
        (output / name).write_text("of another tool")
        before = contents(output)
        with pytest.raises(InputError, match=rf"{name}: .*would be read with it"):
            programs[program](output)
        assert contents(output) == before


def test_a_stopped_writer_may_write_again(tmp_path):
    """Whatever the moment: a file is noted before it takes its name."""
    claim(tmp_path, (), ["a.json"])

    real = os.replace

    def stop(*_):
        raise KeyboardInterrupt

    def stop_before_the_name(source, target):
        if target.name == "a.json":
            stop()
        real(source, target)

    for number in range(3):
        write_json(tmp_path / "a.json", number)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", stop)
            with pytest.raises(KeyboardInterrupt):
                write_json(tmp_path / "a.json", "never")
        claim(tmp_path, (), ["a.json"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "replace", stop_before_the_name)
            with pytest.raises(KeyboardInterrupt):
                write_json(tmp_path / "a.json", "noted, not there")
        claim(tmp_path, (), ["a.json"])
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]


def test_a_full_disk_is_noticed_before_anything_is_removed(programs, tmp_path, monkeypatch):
    """A model's folder of links frees nothing when it is cleared."""
    copied = {"fetch_model": "model", "build_variant": "model", "build_adapter": "adapter"}
    programs["fetch_model"](tmp_path / "model")
    programs["build_adapter"](tmp_path / "adapter")
    before = contents(tmp_path)
    full = shutil._ntuple_diskusage(10, 10, 0)
    monkeypatch.setattr(claims.shutil, "disk_usage", lambda _: full)
    for name, output in copied.items():
        with pytest.raises(InputError, match="GB are needed, 0 GB are free"):
            programs[name](tmp_path / output)
        assert contents(tmp_path) == before


def test_local_weights_are_linked_and_never_written_through(trio, pair, tmp_path, capfd):
    base, derivative = pair
    output = tmp_path / "model"
    copy_model(base, output)
    assert "hard link" in capfd.readouterr().err
    assert (output / "model.safetensors").samefile(base / "model.safetensors")
    assert not (output / "config.json").samefile(base / "config.json")
    before = contents(base)
    copy_model(derivative, output)
    copy_model(base, output)
    write_variant(trio.base, trio.derivative, output, trio.base)
    assert contents(base) == before


@pytest.mark.parametrize("way", ["symbolic link", "copy"])
def test_where_hard_links_are_refused(pair, tmp_path, monkeypatch, capfd, way):
    def refuse(*_, **__):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    if way == "copy":
        monkeypatch.setattr(Path, "symlink_to", refuse)
    base, output = pair[0], tmp_path / "model"
    before = contents(base)
    copy_model(base, output)
    copy_model(base, output)
    assert way in capfd.readouterr().err
    assert (output / "model.safetensors").is_symlink() is (way == "symbolic link")
    assert sha256(output / "model.safetensors") == before["model.safetensors"]
    copy_model(pair[1], output)
    assert contents(base) == before


def test_a_source_trained_anew_in_place_can_be_fetched_again(pair, tmp_path):
    base, output = pair[0], tmp_path / "model"
    copy_model(base, output)
    weights = base / "model.safetensors"
    with weights.open("r+b") as file:  # as np.memmap or a careless copy would: the same inode
        file.seek(-1, 2)
        file.write(b"\x01")
    with pytest.raises(InputError, match=r"content is not what manifest.json says"):
        write_variant(output, pair[1], tmp_path / "v", output)
    copy_model(base, output)
    write_variant(output, pair[1], tmp_path / "v", output)


def test_programs_of_one_file_do_not_overwrite_their_inputs(tmp_path):
    table = tmp_path / "p.csv"
    table.write_text("problem_id,problem,answer\na,1+1?,2\n")
    os.link(table, tmp_path / "twin.csv")
    before = contents(tmp_path)
    for output in (table, tmp_path / "twin.csv"):
        with pytest.raises(InputError, match="is the input"):
            write_benchmark(output, path=table)
        with pytest.raises(InputError, match="is the input"):
            write_metrics(table, "m", "b", [1], output)
        grades = {"b": {"m": table, "n": table}}
        with pytest.raises(InputError, match="is the input"):
            write_comparisons(grades, "b", [1], output)
        with pytest.raises(InputError, match="is the input"):
            write_comparisons(grades, "b", [1], tmp_path / "new.csv", record=output)
        graded = subprocess.run(
            [sys.executable, SCRIPTS / "grade.py", "--samples", table, "--problems", table,
             "--output", output],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "is the input" in graded.stderr
    assert contents(tmp_path) == before


def test_a_training_program_spares_what_lies_in_its_output(tmp_path):
    weights = random_weights(0, tied=True)
    mine = write_checkpoint(tmp_path / "mine", weights, config(True, "float32"))
    before = contents(mine)
    settings = SCRIPTS.parent / "experiments/training/mini.yaml"
    command = [sys.executable, SCRIPTS / "train_pretrained.py", "--settings", settings]
    result = subprocess.run([*command, "--output", mine], capture_output=True, text=True)
    assert "is not ours" in result.stderr
    assert contents(mine) == before


def test_a_marker_reaches_no_other_folder(tmp_path):
    """One that came with somebody's folder, and names what lies elsewhere."""
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to("mine")
    folder = tmp_path / "folder"
    folder.mkdir()
    files = {"../mine": [sha256(tmp_path / "mine")], "../link": [""], "..": [""], "": [""]}
    write_marker(folder, files)
    claim(folder, (), ["a.json"])
    clear(folder)
    assert (tmp_path / "link").read_text() == "mine"


def test_a_link_at_a_name_is_replaced_not_followed(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "name").symlink_to("target")
    with whole_file(tmp_path / "name") as temporary:
        temporary.write_text("ours")
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "name").read_text() == "ours"
    check_output(tmp_path / "elsewhere", [None, tmp_path / "target", tmp_path / "not there"])
