"""Every mistake in the configuration is one line that names the key, before anything runs."""

from pathlib import Path

import pytest
import yaml

from lowrank.configuration import flags, load
from lowrank.errors import InputError

ROOT = Path(__file__).parent.parent
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / f"experiments/{name}.yaml").read_text())


@pytest.fixture
def root(tmp_path):
    """A root with the real schemas and no experiment yet."""
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/schemas").symlink_to(ROOT / "workflow/schemas")
    (tmp_path / "experiments").mkdir()
    return tmp_path


def test_the_post_is_planned_as_published():
    post = load(CONFIG | {"experiment": "deepscaler"}, ROOT)
    assert {(v.rank, v.other) for v in post.variants.values()} == {
        (rank, other) for rank in (16, 64, 256) for other in ("copy", "keep")
    }
    assert post.subject["references"] == ["distill", "deepscaler"]
    assert (post.base, post.derivative) == ("distill", "deepscaler")
    assert post.shards == ["0000-0015", "0016-0031", "0032-0047", "0048-0063"]
    assert post.gpus == 1


def test_lists_on_the_command_line_are_numbers():
    assert load(CONFIG | {"ranks": ["8", "16"]}, ROOT).config["ranks"] == [8, 16]


def test_growing_the_pool_keeps_the_names_of_the_shards_there_are():
    small = load(CONFIG | {"experiment": "deepscaler", "samples": 32}, ROOT)
    large = load(CONFIG | {"experiment": "deepscaler", "samples": 64}, ROOT)
    assert large.shards[: len(small.shards)] == small.shards


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rank": [4]}, "config.yaml: unknown key rank; known are experiment, ranks"),
        ({"ranks": [0]}, "config.yaml: ranks[0]: is 0, must be at least 1"),
        ({"ranks": [16, 4097]}, "config.yaml: ranks[1]: is 4097, must be at most 4096"),
        ({"ranks": []}, "config.yaml: ranks: is empty"),
        ({"other": []}, "config.yaml: other: is empty"),
        ({"ranks": [16, 16]}, "config.yaml: ranks: [16, 16] names a value twice"),
        ({"ranks": 16}, "config.yaml: ranks: is 16, must be of type array"),
        ({"other": ["move"]}, 'config.yaml: other[0]: is "move", must be one of copy, keep'),
        ({"maj_k": [8, 65]}, "config.yaml: maj_k has 65, more than samples: 64"),
        ({"samples": 65}, "config.yaml: samples is 65, not a multiple of samples_per_shard: 64"),
        ({"experiment": "a/b"}, 'config.yaml: experiment: is "a/b", must be a name of letters'),
        ({"experiment": "absent"}, "there is no experiments/absent.yaml; there are: deepscaler"),
    ],
)
def test_a_wrong_question_is_refused_by_name(change, said):
    with pytest.raises(InputError) as error:
        load(CONFIG | change, ROOT)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("models.rl.revision", "main", "models.rl.revision is 'main'; a 40-digit commit"),
        ("models.rl.repo", None, "models.rl has no source; give path, or repo and revision"),
        ("models.rl.path", "there", "models.rl has both path and repo"),
        ("models.a/b", {"label": "x", "path": "y"}, "must be a name of letters"),
        ("deltas.rl.base", "absent", "deltas.rl.base is 'absent', which is none of models: "),
        ("delta", "absent", "delta is 'absent', which is none of deltas: sft, rl"),
        ("references", ["rl"], "references lacks 'sft'"),
        ("references", [], "references: is empty"),
        ("tokenizer", "absent", "tokenizer is 'absent', which is none of models"),
        ("benchmarks", {}, "benchmarks: is empty"),
        ("benchmarks.b.file", None, "benchmarks.b has no file"),
        ("sampling.user", "Solve it.", 'sampling.user: is "Solve it.", must contain {problem}'),
        ("sampling.top_p", 0, "sampling.top_p: is 0, must be more than 0"),
        ("sampling.beam", 4, "sampling: unknown key beam"),
        ("title", None, "missing key title"),
        ("serve_dtype", "int8", "must be one of bfloat16, float16, float32"),
        ("models.r16-copy", {"label": "x", "path": "y"}, "models.r16-copy has a variant's name"),
    ],
)
def test_a_wrong_subject_is_refused_by_name(root, path, value, said):
    subject = read("mini")
    commit = "0123456789abcdef0123456789abcdef01234567"
    subject["models"]["rl"] = {"label": "rl", "repo": "owner/name", "revision": commit}
    subject["benchmarks"]["b"] = {
        "label": "b", "repo": "owner/b", "revision": commit, "file": "b.jsonl",
        "answer_type": "integer",
    }  # fmt: skip
    *above, last = path.split(".") if "/" not in path else path.split(".", 1)
    place = subject
    for key in above:
        place = place[key]
    if value is None:
        del place[last]
    else:
        place[last] = value
    (root / "experiments/mine.yaml").write_text(yaml.safe_dump(subject, sort_keys=False))
    with pytest.raises(InputError) as error:
        load(CONFIG | {"experiment": "mine"}, root)
    assert str(error.value).startswith("experiments/mine.yaml")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_yaml_is_named(root):
    (root / "experiments/mine.yaml").write_text("models: [")
    with pytest.raises(InputError, match=r"experiments/mine\.yaml: not valid YAML"):
        load(CONFIG | {"experiment": "mine"}, root)


def test_flags_survive_a_shell():
    import shlex

    text = "it's \\boxed{} $HOME\n--first"
    said = flags({"max_tokens": 5, "user": text, "nothing": None, "leave_out": ["a", "b c"]})
    assert shlex.split(said) == ["--max-tokens=5", f"--user={text}", "--leave-out", "a", "b c"]
