"""The real hub client against a server on this machine: pinned, resumed, checked, explained."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas
import pytest
import torch
from conftest import config, write_checkpoint
from hub_server import COMMIT, Hub, running_hub
from safetensors.torch import load_file, save_file

from lowrank.errors import InputError
from lowrank.files import MARKER, sha256
from lowrank.models.checkpoint import open_checkpoint
from lowrank.models.hub import copy_model
from lowrank.plan.checkpoint_files import INDEX, SINGLE, TOKENIZER, read_index
from lowrank.sampling.completions import model_digest
from lowrank.sampling.prompts import end_tokens, load_tokenizer, prompt_ids, tokenizer_digest

SCRIPTS = Path(__file__).parents[2] / "scripts"
# What is written into a model's folder beside the files of its source.
OURS = {MARKER, "manifest.json", INDEX, "tokenizer"}
SECRET = "hf_SecretSecretSecretSecretSecret00"


@pytest.fixture
def hub(trio, tmp_path):
    source = shutil.copytree(trio.derivative, tmp_path / "source")
    (source / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    (source / "modeling_evil.py").write_text("raise SystemExit")
    (source / "README.md").write_text("x")
    (source / "onnx").mkdir()
    (source / "onnx" / "model.safetensors").write_bytes(b"not looked at")
    with running_hub() as hub:
        hub.home = tmp_path / "hf-home"
        hub.add("lab/rl", source)
        yield hub


def fetch(hub: Hub, output: Path, *given, **environment) -> subprocess.CompletedProcess:
    """Run fetch_model.py against the server, with a token and a cache of its own."""
    given = given or ("--repo", "lab/rl", "--revision", COMMIT)
    return run_program("fetch_model.py", hub, output, *given, **environment)


def run_program(program, hub, output, *given, **environment):
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    clean |= {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(hub.home),
        "HF_TOKEN": SECRET,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "NO_PROXY": "127.0.0.1",
    }
    result = subprocess.run(
        [sys.executable, SCRIPTS / program, *given, "--output", output],
        capture_output=True,
        text=True,
        env=clean | environment,
        timeout=120,
    )
    assert SECRET not in result.stdout + result.stderr
    return result


def refusal(result: subprocess.CompletedProcess) -> str:
    """The one line a failed program says."""
    assert result.returncode == 1, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


def same(trio, output: Path) -> None:
    for path in trio.derivative.iterdir():
        assert sha256(path) == sha256(output / path.name), path.name


def test_only_listed_kinds_of_files_are_fetched(trio, hub, tmp_path):
    output = tmp_path / "model"
    result = fetch(hub, output)
    assert result.returncode == 0, result.stderr
    same(trio, output)
    names = {path.name for path in output.iterdir()}
    assert names == {path.name for path in trio.derivative.iterdir()} | OURS
    manifest = json.loads((output / "manifest.json").read_text())
    assert manifest["source"] == {"repo": "lab/rl", "revision": COMMIT}
    assert all(COMMIT in path for _, path, _ in hub.requests)
    assert {name.rsplit(".", 1)[1] for name in hub.bodies()} <= {"safetensors", "json"}


def test_a_second_run_fetches_no_weights_again(trio, hub, tmp_path):
    output = tmp_path / "model"
    fetch(hub, output)
    hub.requests.clear()
    assert fetch(hub, output).returncode == 0
    assert not [name for name in hub.bodies() if name.endswith(".safetensors")]
    same(trio, output)


def test_two_experiments_fetch_a_checkpoint_once(trio, hub, tmp_path):
    for name in ("one", "other"):
        output = tmp_path / name / "models" / "rl"
        assert fetch(hub, output).returncode == 0
        same(trio, output)
    assert len(hub.bodies()) == len(set(hub.bodies()))
    blobs = next(hub.home.rglob("blobs"))
    assert all(path.samefile(blobs / sha256(path)) for path in output.glob("*.safetensors"))


@pytest.mark.parametrize("status", [None, 401, 403, 500])
def test_the_token_is_written_nowhere(hub, tmp_path, status):
    """That no program says it is asserted at every call, see `run_program`."""
    hub.refuse = status
    fetch(hub, tmp_path / "model")
    hub.refuse, hub.alter = None, 99
    fetch(hub, tmp_path / "other")
    assert any(SECRET in " ".join(headers.values()) for headers in hub.headers)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("killed", [False, True])
def test_a_cut_connection_is_continued(hub, tmp_path, killed):
    """What is asked for after a cut, by the client or by the next run, is only the rest."""
    # The client writes 10 MB at a time: what is to be continued has to be larger.
    weights = {"model.embed_tokens.weight": torch.zeros(5000, 1000)}
    folder = write_checkpoint(tmp_path / "large", weights, config(True, "float32"))
    hub.add("lab/large", folder)
    output = tmp_path / "model"
    hub.cut_after = 15_000_000
    hub.refuse_after_cut = killed
    given = ("--repo", "lab/large", "--revision", COMMIT)
    result = fetch(hub, output, *given)
    if killed:
        assert "run it again" in refusal(result)
        assert not (output / "manifest.json").exists()
        hub.refuse = None
        result = fetch(hub, output, *given)
    assert result.returncode == 0, result.stderr
    assert sha256(output / "model.safetensors") == sha256(folder / "model.safetensors")
    starts = [int(found[6:].split("-")[0]) for method, path, found in hub.requests
              if method == "GET" and found and path.endswith("model.safetensors")]  # fmt: skip
    assert max(starts) >= 10_000_000


@pytest.mark.parametrize("place", ["server", "disk"])
def test_an_altered_file_is_fetched_again(trio, hub, tmp_path, place):
    output = tmp_path / "model"
    if place == "server":
        hub.alter = 1
    else:
        fetch(hub, output)
        shard = output / "model-00001-of-00002.safetensors"
        content = bytearray(shard.read_bytes())
        content[-1] ^= 1
        shard.write_bytes(content)
    result = fetch(hub, output)
    assert result.returncode == 0, result.stderr
    same(trio, output)


def test_a_file_that_always_arrives_altered_is_refused(hub, tmp_path):
    hub.alter = 99
    words = refusal(fetch(hub, tmp_path / "model"))
    assert "model-00001-of-00002.safetensors: what arrives does not have the hash" in words
    assert not (tmp_path / "model" / "manifest.json").exists()


@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT[:7], COMMIT.upper()])
def test_only_full_commits_are_revisions(hub, tmp_path, revision):
    words = refusal(fetch(hub, tmp_path / "m", "--repo", "lab/rl", "--revision", revision))
    assert f"revision is {revision!r}; a 40-digit commit is needed" in words
    assert not hub.requests


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "log in with `hf auth login` or set HF_TOKEN"),
        (403, "refuses access (403)"),
        (404, "404"),
        (429, "asks for fewer requests (429)"),
        (500, "answers with an error (500)"),
    ],
)
def test_refusals_are_one_line_that_says_what_to_do(hub, tmp_path, status, words):
    hub.refuse = status
    assert words in refusal(fetch(hub, tmp_path / "m"))


def test_unknown_names(hub, tmp_path):
    given = ("--repo", "lab/none", "--revision", COMMIT)
    assert "no such repository" in refusal(fetch(hub, tmp_path / "m", *given))
    given = ("--repo", "lab/rl", "--revision", "f" * 40)
    assert "no such revision" in refusal(fetch(hub, tmp_path / "m", *given))
    given = ("--repo", "a/b/c", "--revision", COMMIT)
    assert "no valid repository name" in refusal(fetch(hub, tmp_path / "m", *given))
    assert "either --repo" in refusal(fetch(hub, tmp_path / "m", "--repo", "lab/rl"))


def test_timeouts_and_unreachable_hubs(hub, tmp_path):
    hub.stall = True
    words = refusal(fetch(hub, tmp_path / "m", HF_HUB_ETAG_TIMEOUT="1"))
    assert "does not answer in time" in words
    words = refusal(fetch(hub, tmp_path / "m", HF_ENDPOINT="http://127.0.0.1:9"))
    assert "no connection to the hub" in words


def test_pickle_only_repositories_are_refused(hub, tmp_path):
    folder = tmp_path / "pickles"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    hub.add("lab/old", folder)
    words = refusal(fetch(hub, tmp_path / "m", "--repo", "lab/old", "--revision", COMMIT))
    assert "only as pytorch_model.bin, a pickle" in words
    assert not hub.bodies()


def add_variation(hub, trio, folder, change):
    """The derivative's repository after a change to its files, as lab/varied."""
    change(shutil.copytree(trio.derivative, folder))
    hub.add("lab/varied", folder)
    return "--repo", "lab/varied", "--revision", COMMIT


def renumber(folder):
    """Shards as R1-Distill's own are called."""
    index = folder / INDEX
    index.write_text(index.read_text().replace("-of-00002", "-of-000002"))
    for path in folder.glob("*-of-00002.safetensors"):
        path.rename(folder / path.name.replace("-of-00002", "-of-000002"))


def forget_index(folder):
    (folder / INDEX).unlink()


def merge(folder):
    """One file beside the shards' index, which real repositories forget to remove."""
    files = sorted(folder.glob("*.safetensors"))
    save_file({n: w for file in files for n, w in load_file(file).items()}, folder / SINGLE)


def point_at_single(folder):
    """One file, and an index that names nothing else."""
    merge(folder)
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"] = dict.fromkeys([*index["weight_map"], "model.rotary.inv_freq"], SINGLE)
    (folder / INDEX).write_text(json.dumps(index))
    for file in folder.glob("model-*.safetensors"):
        file.unlink()


def add_consolidated(folder):
    shutil.copy(next(folder.glob("model-*.safetensors")), folder / "consolidated.safetensors")
    (folder / "original").mkdir()
    (folder / "original" / "model.safetensors").write_bytes(b"of another format")


@pytest.mark.parametrize(
    "change", [renumber, forget_index, merge, point_at_single, add_consolidated]
)
def test_names_as_repositories_have_them(trio, hub, tmp_path, change):
    """From the hub and from a folder, and over what was fetched before: the same tensors, in files
    that transformers finds."""
    from transformers import AutoModelForCausalLM

    given = add_variation(hub, trio, tmp_path / "varied", change)
    output = tmp_path / "model"
    for _ in range(2):
        result = fetch(hub, output, *given)
        assert result.returncode == 0, result.stderr
    for _ in range(2):
        copy_model(tmp_path / "varied", tmp_path / "local")
    expected = open_checkpoint(trio.derivative)
    for folder in (output, tmp_path / "local"):
        found = open_checkpoint(folder)
        assert set(found.tensors) == set(expected.tensors)
        assert all(torch.equal(found.read(name), expected.read(name)) for name in found.tensors)
        AutoModelForCausalLM.from_pretrained(folder, dtype="auto")


def test_what_a_repository_lacks_is_not_to_be_fetched_anew(trio, hub, tmp_path):
    def lose(folder):
        (folder / "model-00002-of-00002.safetensors").unlink()

    def adapt(folder):
        (folder / "adapter_config.json").write_text("{}")

    given = add_variation(hub, trio, tmp_path / "lost", lose)
    words = refusal(fetch(hub, tmp_path / "m", *given))
    assert "00002.safetensors, which is missing" in words
    assert "take another revision" in words
    assert "anew" not in words
    given = add_variation(hub, trio, tmp_path / "adapted", adapt)
    assert "an unmerged adapter" in refusal(fetch(hub, tmp_path / "m", *given))
    assert not [name for name in hub.bodies() if name.endswith(".safetensors")]


def test_a_hub_never_writes_over_what_is_not_its_own(trio, hub, tmp_path):
    """A folder of somebody's weights, and one whose files are links to somebody's."""
    mine = shutil.copytree(trio.base, tmp_path / "mine")
    before = {path.name: sha256(path) for path in mine.iterdir()}
    assert "is not ours" in refusal(fetch(hub, mine))
    copy_model(mine, tmp_path / "linked")
    assert fetch(hub, tmp_path / "linked").returncode == 0
    same(trio, tmp_path / "linked")
    assert {path.name: sha256(path) for path in mine.iterdir()} == before


def test_a_file_edited_in_the_output_is_set_aside(trio, hub, tmp_path):
    output = tmp_path / "model"
    fetch(hub, output)
    (output / "config.json").write_text("{}")
    result = fetch(hub, output)
    assert "config.json: was changed since it was written, now config.json.changed-1" in (
        result.stderr
    )
    same(trio, output)
    assert (output / "config.json.changed-1").read_text() == "{}"


def test_a_hostile_index_fetches_nothing(hub, tmp_path):
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    index = {"weight_map": {"a": "../../evil.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    hub.add("lab/hostile", folder)
    words = refusal(fetch(hub, tmp_path / "m", "--repo", "lab/hostile", "--revision", COMMIT))
    assert "not to be trusted" in words
    assert hub.bodies() == ["model.safetensors.index.json"]


def test_offline_is_honoured(trio, hub, tmp_path):
    words = refusal(fetch(hub, tmp_path / "m", HF_HUB_OFFLINE="1"))
    assert "HF_HUB_OFFLINE is set" in words
    assert not hub.requests
    fill = (
        "from huggingface_hub import snapshot_download; import sys;"
        "snapshot_download('lab/rl', revision=sys.argv[1],"
        " allow_patterns=['*.json', '*.safetensors'])"
    )
    mine = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = mine | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(hub.home),
        "NO_PROXY": "127.0.0.1",
    }
    subprocess.run([sys.executable, "-c", fill, COMMIT], env=environment, check=True)
    hub.requests.clear()
    result = fetch(hub, tmp_path / "m", HF_HUB_OFFLINE="1")
    assert result.returncode == 0, result.stderr
    assert not hub.requests
    same(trio, tmp_path / "m")


def test_a_small_disk_is_noticed_before_anything_is_fetched(trio, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(InputError, match="GB are needed, 0 GB are free"):
        copy_model(trio.base, tmp_path / "m")
    assert not list((tmp_path / "m").iterdir())


def test_local_folders(trio, tmp_path):
    output = tmp_path / "m"
    copy_model(trio.derivative, output)
    same(trio, output)
    assert open_checkpoint(output).parameters == open_checkpoint(trio.derivative).parameters
    # Another model into the same folder: nothing of the first one stays.
    copy_model(trio.base, output)
    assert {p.name for p in output.iterdir()} == {p.name for p in trio.base.iterdir()} | OURS
    with pytest.raises(InputError, match="is the input"):
        copy_model(output, output)
    with pytest.raises(InputError, match="no such file or folder"):
        copy_model(tmp_path / "none", output)


def test_what_prompts_need_lies_in_one_folder(trio, tmp_path):
    """Whatever there is of it: rules name the folder, the tokenizer reads the same from it."""
    output = tmp_path / "m"
    copy_model(trio.derivative, output)
    names = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}
    assert {path.name for path in (output / TOKENIZER).iterdir()} == names | {MARKER}
    assert tokenizer_digest(output / TOKENIZER) == tokenizer_digest(trio.derivative)
    one, other = (load_tokenizer(folder) for folder in (output / TOKENIZER, trio.derivative))
    asked = ("", "{problem}", "<think>\n", "1+1?")
    assert prompt_ids(one, *asked) == prompt_ids(other, *asked)
    assert end_tokens(output / TOKENIZER, one) == end_tokens(trio.derivative, other)
    # Another model into the same folder: what it has not is gone.
    bare = shutil.copytree(trio.base, tmp_path / "bare")
    (bare / "generation_config.json").unlink()
    copy_model(bare, output)
    assert not (output / TOKENIZER / "generation_config.json").exists()


def test_the_index_of_a_single_file_changes_nothing_that_is_served(trio, tmp_path):
    copy_model(trio.base, tmp_path / "m")
    assert {*read_index(tmp_path / "m" / INDEX, "m").values()} == {SINGLE}
    assert model_digest(tmp_path / "m") == model_digest(trio.base)


def test_fetching_needs_no_torch(trio, tmp_path):
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from lowrank.models.hub import copy_model;"
        "copy_model(*sys.argv[2:]); assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-c", program, SCRIPTS, trio.base, tmp_path / "m"]
    subprocess.run(command, check=True)


def test_benchmarks_from_the_hub(hub, tmp_path):
    folder = tmp_path / "aime" / "data"
    folder.mkdir(parents=True)
    rows = {"id": [60, 61], "problem": ["1+1?", "2+2?"], "answer": ["002", "4"]}
    pandas.DataFrame(rows).to_parquet(folder / "train.parquet")
    hub.add("lab/aime", folder.parent, kind="datasets")
    given = ("--repo", "lab/aime", "--revision", COMMIT, "--file")
    output = tmp_path / "b.parquet"
    result = run_program("fetch_benchmark.py", hub, output, *given, "data/train.parquet")
    assert result.returncode == 0, result.stderr
    assert pandas.read_parquet(output).answer.tolist() == ["002", "4"]
    words = refusal(run_program("fetch_benchmark.py", hub, output, *given, "data/test.parquet"))
    assert "has no file data/test.parquet; its tables are data/train.parquet" in words
