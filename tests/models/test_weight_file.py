"""One weight file by its name: fetched, checked, continued, linked."""

import json
import os
import shutil

import pytest
from hub_server import COMMIT
from test_hub import OURS, hub, refusal, run_program  # noqa: F401, a fixture

from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.models.hub import copy_model
from lowrank.models.weight_file import link_weights

SHARD = "model-00001-of-00002.safetensors"
HUB = ("--repo", "lab/rl", "--revision", COMMIT)


def fetch(hub, output, *given, **environment):  # noqa: F811
    return run_program("fetch_weights.py", hub, output, *(given or HUB), **environment)


def test_one_shard_is_fetched_and_the_rest_follows(trio, hub, tmp_path):  # noqa: F811
    """The folder is then completed without fetching weights again, and the client's notes go."""
    folder = tmp_path / "model"
    names = sorted(path.name for path in trio.derivative.glob("*.safetensors"))
    for name in names:
        assert fetch(hub, folder / name).returncode == 0
        assert sha256(folder / name) == sha256(trio.derivative / name)
    assert not (folder / "config.json").exists()
    hub.requests.clear()
    assert run_program("fetch_model.py", hub, folder, *HUB).returncode == 0
    assert not [name for name in hub.bodies() if name.endswith(".safetensors")]
    made = {path.name for path in folder.iterdir()}
    assert made == {path.name for path in trio.derivative.iterdir()} | OURS
    # A shard that is lost, and in the client's cache, too, is fetched alone; the manifest holds.
    before = (folder / "manifest.json").read_bytes()
    (folder / SHARD).unlink()
    next(hub.home.rglob(f"snapshots/*/{SHARD}")).unlink()
    (next(hub.home.rglob("blobs")) / sha256(trio.derivative / SHARD)).unlink()
    hub.requests.clear()
    assert fetch(hub, folder / SHARD).returncode == 0
    assert [name for name in hub.bodies() if name.endswith(".safetensors")] == [SHARD]
    assert (folder / "manifest.json").read_bytes() == before


def test_what_lies_in_the_folder_is_not_fetched_although_the_cache_is_gone(trio, hub, tmp_path):  # noqa: F811
    """As where files are brought from an object store."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in trio.derivative.glob("*.safetensors"):
        shutil.copyfile(path, folder / path.name)
    assert run_program("fetch_model.py", hub, folder, *HUB).returncode == 0
    assert not [name for name in hub.bodies() if name.endswith(".safetensors")]


def test_a_damaged_shard_is_fetched_again(trio, hub, tmp_path):  # noqa: F811
    output = tmp_path / "model" / SHARD
    fetch(hub, output)
    output.write_bytes(output.read_bytes()[:-1] + b"\x01")
    assert fetch(hub, output).returncode == 0
    assert sha256(output) == sha256(trio.derivative / SHARD)


def test_what_somebody_else_put_there_stays(trio, hub, tmp_path):  # noqa: F811
    output = tmp_path / "model" / SHARD
    output.parent.mkdir()
    output.write_bytes(b"of somebody else")
    assert f"{SHARD}: lies where a file of the output goes" in refusal(fetch(hub, output))
    with pytest.raises(InputError, match="is not ours; it is left as it is"):
        link_weights(trio.derivative, output)
    assert output.read_bytes() == b"of somebody else"


def test_a_name_that_is_none_of_the_weights_says_what_to_write(hub, tmp_path):  # noqa: F811
    words = refusal(fetch(hub, tmp_path / "model" / "model.safetensors"))
    assert f"they are {SHARD} and 1 more: write `shards: 2` below the model's revision" in words
    assert not (tmp_path / "model").exists()


def test_a_local_file_is_linked_and_its_time_stays(trio, tmp_path):
    """Snakemake makes every output newer; through a hard link that would be the source's time."""
    output = tmp_path / "model" / "model.safetensors"
    before = (trio.base / output.name).stat().st_mtime_ns
    link_weights(trio.base, output)
    os.utime(output, (1, 1), follow_symlinks=False)
    assert output.is_symlink()
    assert (trio.base / output.name).stat().st_mtime_ns == before
    copy_model(trio.base, output.parent)
    assert output.is_symlink()  # what is there already is left as it is
    manifest = json.loads((output.parent / "manifest.json").read_text())
    assert manifest["files"][output.name]["sha256"] == sha256(trio.base / output.name)


def test_links_within_the_working_directory_move_with_it(trio, tmp_path, monkeypatch):
    here = tmp_path / "here"
    shutil.copytree(trio.base, here / "source")
    monkeypatch.chdir(here)
    link_weights("source", "results/model/model.safetensors")
    moved = here.rename(tmp_path / "moved")
    linked = moved / "results/model/model.safetensors"
    assert sha256(linked) == sha256(trio.base / linked.name)


def test_a_manifest_of_another_source_goes(trio, tmp_path):
    """What it says of the file would hold no longer, should the job that renews it never run."""
    source = shutil.copytree(trio.base, tmp_path / "source")
    output = tmp_path / "model" / "model.safetensors"
    link_weights(source, output)
    copy_model(source, output.parent)
    link_weights(source, output)
    assert (output.parent / "manifest.json").exists()
    shutil.copy2(trio.grandparent / output.name, source / output.name)
    link_weights(source, output)
    assert not (output.parent / "manifest.json").exists()


def test_where_links_are_refused_it_is_copied(trio, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr("pathlib.Path.symlink_to", refuse)
    output = tmp_path / "model" / "model.safetensors"
    link_weights(trio.base, output)
    assert not output.is_symlink()
    assert sha256(output) == sha256(trio.base / output.name)


def test_a_source_without_the_file_is_named(trio, tmp_path):
    with pytest.raises(InputError, match=f"{SHARD}: no such file"):
        link_weights(trio.base, tmp_path / "model" / SHARD)
