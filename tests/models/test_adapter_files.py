"""An adapter's two files: from a hub at a commit, from a folder, and nothing else of either."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import COMMIT, running_hub

from lowrank.errors import InputError
from lowrank.files import MARKER, sha256
from lowrank.models.adapter_files import copy_adapter

FILES = ("adapter_config.json", "adapter_model.safetensors")
PROGRAM = Path(__file__).parents[2] / "scripts/fetch_adapter.py"


@pytest.fixture
def source(tmp_path):
    """A repository with adapters in two of its folders, and much beside them."""
    for place in ("runs/checkpoint-64", "runs/checkpoint-128"):
        folder = tmp_path / "source" / place
        folder.mkdir(parents=True)
        (folder / FILES[0]).write_text("{}")
        (folder / FILES[1]).write_bytes(place.encode() * 1000)
        (folder / "optimizer.pt").write_bytes(b"a pickle")
        (folder / "tokenizer.json").write_text("{}")
    (tmp_path / "source/old").mkdir()
    (tmp_path / "source/old/adapter_config.json").write_text("{}")
    (tmp_path / "source/old/adapter_model.bin").write_bytes(b"a pickle")
    (tmp_path / "source/whole").mkdir()
    (tmp_path / "source/whole/model.safetensors").write_bytes(b"")
    return tmp_path / "source"


@pytest.fixture
def hub(source):
    with running_hub() as hub:
        hub.add("lab/adapters", source)
        yield hub


def fetch(hub, output, subfolder, **environment) -> subprocess.CompletedProcess:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    clean |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(output.parent / "hf"), "NO_PROXY": "127.0.0.1"}
    given = ("--repo", "lab/adapters", "--revision", COMMIT, "--subfolder", subfolder)
    return subprocess.run(
        [sys.executable, PROGRAM, *given, "--output", output],
        capture_output=True, text=True, env=clean | environment,
    )  # fmt: skip


def test_two_files_of_one_folder_are_fetched(hub, source, tmp_path):
    output, place = tmp_path / "out", "runs/checkpoint-128"
    for _ in range(2):
        result = fetch(hub, output, place)
        assert result.returncode == 0, result.stderr
    assert {path.name for path in output.iterdir()} == {*FILES, MARKER, "adapter_source.json"}
    record = json.loads((output / "adapter_source.json").read_text())
    assert record["source"] == {"repo": "lab/adapters", "revision": COMMIT, "subfolder": place}
    for name in FILES:
        assert sha256(output / name) == sha256(source / place / name)
        assert record["files"][name]["sha256"] == sha256(source / place / name)
    assert set(hub.bodies()) == set(FILES)
    # Another one into the same folder takes its place.
    assert fetch(hub, output, "runs/checkpoint-64").returncode == 0
    assert sha256(output / FILES[1]) == sha256(source / "runs/checkpoint-64" / FILES[1])


def test_what_arrives_altered_is_fetched_again_and_then_refused(hub, tmp_path):
    hub.alter = 1
    assert fetch(hub, tmp_path / "a", "runs/checkpoint-64").returncode == 0
    hub.alter = 99
    result = fetch(hub, tmp_path / "b", "runs/checkpoint-64")
    assert "what arrives does not have the hash" in result.stderr
    assert not (tmp_path / "b/adapter_source.json").exists()
    assert not (tmp_path / "b" / FILES[1]).exists()


REFUSED = [
    (
        "",
        r"holds no PEFT adapter .*; subfolder may be old, runs/checkpoint-128, runs/checkpoint-64",
    ),
    ("runs", "subfolder may be"),
    ("old", "has adapter_config.json and no adapter_model.safetensors, only a pickle"),
]


@pytest.mark.parametrize(("place", "words"), REFUSED)
def test_what_is_no_adapter_is_refused_before_anything_is_fetched(hub, tmp_path, place, words):
    result = fetch(hub, tmp_path / "out", place)
    assert result.returncode == 1
    assert re.search(f"^error: lab/adapters@.*{words}", result.stderr, re.MULTILINE)
    assert not hub.bodies()
    assert not (tmp_path / "out").exists()


def test_offline_it_comes_from_the_cache(hub, tmp_path):
    output = tmp_path / "out"
    words = fetch(hub, output, "runs/checkpoint-64", HF_HUB_OFFLINE="1").stderr
    assert "HF_HUB_OFFLINE is set" in words
    fill = (
        "from huggingface_hub import snapshot_download; import sys;"
        "snapshot_download('lab/adapters', revision=sys.argv[1])"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
    subprocess.run([sys.executable, "-c", fill, COMMIT], env=environment, check=True)
    hub.requests.clear()
    result = fetch(hub, output, "runs/checkpoint-64", HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert not hub.requests
    assert (output / "adapter_source.json").is_file()


def test_a_local_one_is_copied(source, tmp_path):
    output = tmp_path / "out"
    copy_adapter(source, "runs/checkpoint-64", output)
    assert {path.name for path in output.iterdir()} == {*FILES, MARKER, "adapter_source.json"}
    assert not (output / FILES[1]).is_symlink()
    record = json.loads((output / "adapter_source.json").read_text())
    assert record["source"] == {"path": str(source), "subfolder": "runs/checkpoint-64"}
    with pytest.raises(InputError, match="is the input"):
        copy_adapter(source / "runs/checkpoint-64", "", source / "runs/checkpoint-64")
    with pytest.raises(InputError, match="no such folder"):
        copy_adapter(source, "none", tmp_path / "b")
    with pytest.raises(InputError, match="only a pickle"):
        copy_adapter(source / "old", "", tmp_path / "b")
    with pytest.raises(InputError, match="it is a whole model"):
        copy_adapter(source / "whole", "", tmp_path / "b")
    (output / FILES[0]).write_text("mine")
    with pytest.raises(InputError, match="was changed since it was written"):
        copy_adapter(source, "runs/checkpoint-64", output)
    assert (output / FILES[0]).read_text() == "mine"


def test_a_link_that_leads_out_of_the_folder_is_not_followed(tmp_path):
    (tmp_path / "secret").write_text("{}")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / FILES[0]).symlink_to(tmp_path / "secret")
    (tmp_path / "a" / FILES[1]).write_bytes(b"")
    with pytest.raises(InputError, match="a link that leads out of the folder"):
        copy_adapter(tmp_path / "a", "", tmp_path / "out")


def test_fetching_an_adapter_needs_no_torch(source, tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from lowrank.models.adapter_files import copy_adapter;"
        "copy_adapter(*sys.argv[2:]); assert 'torch' not in sys.modules"
    )
    given = (PROGRAM.parent, source, "runs/checkpoint-64", tmp_path / "m")
    subprocess.run([sys.executable, "-c", program, *given], check=True)
