"""Every mistake in the configuration is one line that names the key, before anything runs."""

import json
import math
from pathlib import Path

import pytest
import yaml

from lowrank.errors import InputError
from lowrank.plan import divergence
from lowrank.plan.compared import compared, compared_models
from lowrank.plan.configuration import load
from lowrank.plan.flags import flags, folder_flag

ROOT = Path(__file__).parents[2]
SHIPPED = yaml.safe_load((ROOT / "config.yaml").read_text())
CONFIG = SHIPPED | {"further_ranks": []}


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / f"experiments/{name}.yaml").read_text())


@pytest.fixture
def root(tmp_path):
    """A root with the real schemas and no experiment yet."""
    (tmp_path / "workflow").mkdir()
    (tmp_path / "workflow/schemas").symlink_to(ROOT / "workflow/schemas")
    (tmp_path / "config.yaml").symlink_to(ROOT / "config.yaml")
    (tmp_path / "experiments").mkdir()
    return tmp_path


def test_the_post_is_planned_as_published():
    post = load(CONFIG | {"experiment": "deepscaler"}, ROOT)
    assert {(v.rank, v.other) for v in post.variants.values() if v.kind == "lowrank"} == {
        (rank, other) for rank in (16, 64, 256) for other in ("copy", "keep")
    }
    assert {(v.dtype, v.serve_as) for v in post.variants.values()} == {("bfloat16", "merged")}
    assert [name for name, v in post.variants.items() if v.kind != "lowrank"] == ["r0-copy"]
    assert post.subject["references"] == ["distill", "deepscaler"]
    assert (post.base, post.derivative) == ("distill", "deepscaler")
    assert post.parts == ["1-of-1"]


def test_values_on_the_command_line_are_what_they_look_like():
    assert load(CONFIG | {"ranks": ["8", "16"]}, ROOT).config["ranks"] == [8, 16]
    assert load(CONFIG | {"details": "false"}, ROOT).config["details"] is False


def test_keys_left_open_are_answered_as_the_workflow_ships_them():
    assert load({"experiment": "mini", "ranks": [3]}, ROOT).config == SHIPPED | {"ranks": [3]}


def test_an_experiments_own_answers_come_before_the_files_and_after_the_command_line(root):
    subject = read("mini") | {"questions": {"ranks": [2], "samples": 3, "maj_k": [1]}}
    (root / "experiments/own.yaml").write_text(yaml.safe_dump(subject))
    own = load(CONFIG | {"experiment": "own"}, root)
    assert (own.config["ranks"], own.config["samples"]) == ([2], 3)
    assert "questions" not in json.loads(own.description())
    given = load(CONFIG | {"experiment": "own", "ranks": ["5"]}, root, given={"ranks"})
    assert (given.config["ranks"], given.config["samples"]) == ([5], 3)
    assert load({"experiment": "own", "ranks": [4]}, root, module="deep").config["ranks"] == [4]


@pytest.mark.parametrize(
    ("questions", "said"),
    [
        ({"ranks": [0]}, r"experiments/own.yaml: questions: ranks\[0\]: is 0, must be at least 1"),
        ({"rnaks": [1]}, r'experiments/own.yaml: questions: is "rnaks", must be one of ranks'),
        ({"results": "/"}, r'questions: is "results", must be one of ranks'),
    ],
)
def test_an_experiments_own_answers_are_checked(root, questions, said):
    (root / "experiments/own.yaml").write_text(
        yaml.safe_dump(read("mini") | {"questions": questions})
    )
    with pytest.raises(InputError, match=said):
        load(CONFIG | {"experiment": "own"}, root)


def test_what_is_only_read_is_never_sampled():
    asked = CONFIG | {"ranks": [3], "other": ["copy"], "controls": ["other", "random"]}
    some = load(asked | {"only_read": ["random"]}, ROOT)
    assert some.sampled == ["sft", "rl", "r3-copy", "r0-copy"]
    assert some.read == [*some.sampled, "random-r3-copy"]
    assert [path.name for path in some.evidence()].count("random-r3-copy.csv") == 0
    assert compared_models(some) == ["r3-copy", "r0-copy", "rl", "sft"]
    assert json.loads(some.description())["only_read"] == ["random"]

    none = load(asked | {"only_read": ["lowrank", "other", "random"]}, ROOT)
    assert none.sampled == ["sft", "rl"]
    assert compared(none) == {}
    folders = {path.relative_to("results/mini").parts[0] for path in none.evidence()}
    assert not {"grades", "metrics", "comparisons"} & folders
    read = {path.name for path in divergence.results(none)}
    assert {"sft.parquet", "rl.parquet", "r3-copy.parquet", "random-r3-copy.parquet"} <= read


def test_further_ranks_stand_before_the_others_in_the_first_form():
    asked = CONFIG | {"ranks": [16, 4], "further_ranks": [1, 4, 8], "controls": [{"rescaled": [1]}]}
    made = load(asked, ROOT)
    assert list(made.variants) == [
        "r1-copy", "r8-copy", "r16-copy", "r4-copy", "r16-keep", "r4-keep", "rescaled-r1-copy",
    ]  # fmt: skip


def test_ranks_that_are_only_read_stand_between_those_that_answer():
    asked = CONFIG | {"ranks": [2, 3, 5], "controls": ["random"]}
    some = load(asked | {"only_read": [{"lowrank": [2, 5], "random": [3]}]}, ROOT)
    assert some.accuracy
    assert some.sampled == [
        "sft", "rl", "r3-copy", "r3-keep", "random-r2-copy", "random-r5-copy", "random-r2-keep",
        "random-r5-keep",
    ]  # fmt: skip
    assert {"r2-copy", "r5-keep", "random-r3-copy"} <= {*some.read}
    unread = load(asked | {"only_read": [{"lowrank": [2, 5]}], "divergence": None}, ROOT)
    assert list(unread.variants)[:2] == ["r3-copy", "r3-keep"]


def test_an_experiment_is_resolved_once():
    """Planning asks for every name again for every job; making them anew each time is quadratic."""
    mini = load(CONFIG, ROOT)
    assert mini.variants is mini.variants
    assert mini.adapters is mini.adapters
    assert mini.sampled is mini.sampled
    assert mini.parts is mini.parts


def test_what_another_workflow_asks_is_named_after_its_module():
    with pytest.raises(InputError, match=r"^config of module deep: maj_k has 65, more than"):
        load({"maj_k": [65]}, ROOT, module="deep")


def test_forms_and_controls_are_named_by_what_they_are():
    asked = {"ranks": [3], "other": ["copy"], "serve_as": ["merged", "adapter"]}
    asked |= {"controls": ["other"]}
    forms = load(CONFIG | asked | {"serve_dtype": ["bfloat16", "float32"]}, ROOT)
    assert list(forms.variants) == [
        "r3-copy", "r3-copy-float32", "r3-copy-adapter", "r3-copy-float32-adapter",
        "r0-copy", "r0-copy-float32",
    ]  # fmt: skip
    every = load(CONFIG | asked | {"controls": ["other", "biases", "random", "bottom"]}, ROOT)
    assert list(every.variants)[2:] == [
        "r0-copy", "r0-keep", "random-r3-copy", "random-r3-copy-adapter", "bottom-r3-copy",
        "bottom-r3-copy-adapter",
    ]  # fmt: skip
    # The names of those that there were stay, so nothing of theirs is made again.
    assert set(load(CONFIG | asked, ROOT).variants) <= set(every.variants)


def test_a_control_can_be_limited_to_some_ranks():
    """And stands beside the first of `other` then."""
    asked = {"ranks": [2], "other": ["keep", "copy"], "controls": ["random", {"rescaled": [1, 3]}]}
    made = load(CONFIG | asked, ROOT)
    assert list(made.variants)[2:] == [
        "random-r2-keep", "random-r2-copy", "rescaled-r1-keep", "rescaled-r3-keep",
    ]  # fmt: skip
    assert made.control_flags("rescaled-r1") == "--rescale"
    text = asked | {"controls": [{"rescaled": ["1"]}]}  # as on the command line
    assert "rescaled-r1-keep" in load(CONFIG | text, ROOT).variants


def test_other_descriptions_stand_beside_the_first_form():
    asked = {"ranks": [2, 3], "other": ["keep", "copy"], "serve_as": ["adapter", "merged"]}
    asked |= {"serve_dtype": ["float32", "bfloat16"], "controls": ["sparse", "bitdelta"]}
    made = load(CONFIG | asked, ROOT)
    packed = [name for name, variant in made.variants.items() if variant.description]
    assert packed == ["sparse-r2-keep-float32", "sparse-r3-keep-float32", "bitdelta-keep-float32"]
    assert {made.variants[name].serve_as for name in packed} == {"merged"}
    assert list(made.descriptions) == ["sparse-r2", "sparse-r3", "bitdelta"]
    assert made.described == ["sparse", "bitdelta"]
    assert made.bytes_of_ranks == [2, 3]
    assert [made.adapter(name) for name in packed] == [[], [], []]
    (found,) = made.description_of("bitdelta-keep-float32")
    assert found.record == Path("results/mini/descriptions/rl/bitdelta/description.json")
    assert made.description_of("r2-keep-float32") == []


def test_what_would_neither_be_sampled_nor_read_is_not_made():
    asked = {"ranks": [3], "other": ["copy"], "controls": ["other", "random"], "divergence": None}
    unread = load(CONFIG | asked | {"only_read": ["random"]}, ROOT)
    assert list(unread.variants) == ["r3-copy", "r0-copy"]
    with pytest.raises(InputError, match="only_read has lowrank, which would be neither sampled"):
        load(CONFIG | asked | {"only_read": ["lowrank", "other", "random"]}, ROOT)


def test_a_variant_is_built_and_served_as_it_is_named():
    asked = {"ranks": [3], "other": ["copy"], "serve_as": ["merged", "adapter"]}
    asked |= {"serve_dtype": ["float32"], "controls": ["other", "random", "rescaled"]}
    mini = load(CONFIG | asked | {"seed": 7, "details": False}, ROOT)
    adapters = Path("results/mini/adapters/rl")
    made = mini.variants["r3-copy-float32"]
    assert [adapter.record for adapter in mini.adapter(made.name)] == [adapters / "r3/adapter.json"]
    assert mini.unmerged(made.name) == []
    assert mini.served_dtype(made.name) == made.dtype == "float32"
    # vLLM serves no rank 3: the adapter is filled up, and kept apart from the checkpoint.
    apart = mini.variants["r3-copy-float32-adapter"]
    assert apart.unmerged
    assert mini.adapters["r3-padded"].padded
    assert not mini.adapters["r3"].padded
    (adapter,) = mini.unmerged(apart.name)
    assert adapter.record == adapters / "r3-padded/adapter.json"
    assert folder_flag("adapter", [adapter.record]) == f"--adapter {adapters}/r3-padded"
    assert mini.adapter("r0-copy-float32") == []
    assert folder_flag("adapter", []) == ""
    assert mini.control_flags("r3") == ""
    assert mini.control_flags("random-r3") == "--directions=random --seed=7"
    assert mini.control_flags("rescaled-r3") == "--rescale"
    # The models themselves are served in the experiment's own dtype.
    assert mini.served_dtype("rl") == "bfloat16"


def test_an_adapter_is_filled_up_only_where_it_must_be():
    asked = {"ranks": [3, 16], "other": ["copy"], "serve_as": ["adapter"], "controls": []}
    assert list(load(CONFIG | asked, ROOT).adapters) == ["r3-padded", "r16"]


def test_references_and_variants_are_sampled_in_that_order():
    mini = load(CONFIG, ROOT)
    assert mini.read == [*mini.subject["references"], *mini.variants]
    assert [name for name in mini.read if name in mini.sampled] == mini.sampled


def test_files_of_weights_are_named_as_hubs_name_them(root):
    subject = read("deepscaler")
    subject["models"]["distill"]["shards"] = ["a.safetensors", "b.safetensors"]
    subject["deltas"]["rl"]["leave_out"] = ["*.inv_freq"]
    (root / "experiments/mine.yaml").write_text(yaml.safe_dump(subject))
    (root / "experiments/published").symlink_to(ROOT / "experiments/published")
    mine = load(CONFIG | {"experiment": "mine"}, root)
    names = mine.weight_names
    assert names["qwen-math"] == ["model.safetensors"]
    assert names["distill"] == ["a.safetensors", "b.safetensors"]
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    assert names["deepscaler"] == shards
    assert mine.left_out("rl") == ["*.inv_freq"]
    assert mine.left_out("sft") == []


def test_what_is_computed_in_is_asked_of_every_model_or_follows_what_is_served():
    mini, post = (load(CONFIG | {"experiment": name}, ROOT) for name in ("mini", "deepscaler"))
    assert {mini.compute_dtype(model) for model in mini.sampled} == {"float32"}
    assert {mini.served_dtype(model) for model in mini.sampled} == {"bfloat16"}
    assert {post.compute_dtype(model) for model in post.sampled} == {"bfloat16"}


def test_speed_is_asked_of_the_engine_and_is_no_part_of_the_question(root, monkeypatch):
    mini = load(CONFIG, ROOT)
    assert mini.speed_flags("rl") == "--max-num-seqs=512"
    subject = read("mini")
    subject["sampling"] |= {"max_num_seqs": 4, "threads": 2}
    (root / "experiments/mini.yaml").write_text(yaml.safe_dump(subject))
    (root / "resources").symlink_to(ROOT / "resources")
    monkeypatch.chdir(root)  # whose experiments/ comes first
    slower = load(CONFIG | {"results": "elsewhere"}, root)
    assert slower.speed_flags("rl") == "--max-num-seqs=4"
    assert slower.question == mini.question


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
        (
            {"serve_dtype": ["int8"]},
            'config.yaml: serve_dtype[0]: is "int8", must be one of bfloat',
        ),
        (
            {"serve_as": ["adapter"], "ranks": [16, 600]},
            "config.yaml: rank 600 is asked for, but vLLM",
        ),
        ({"controls": ["top"]}, 'config.yaml: controls[0]: is "top", must be one of other, biases'),
        (
            {"controls": [{"rescale": [1]}]},
            "config.yaml: controls[0]: unknown key rescale; known are random, bottom, rescaled",
        ),
        ({"controls": [{"other": [1]}]}, "config.yaml: controls[0]: unknown key other; known"),
        ({"controls": [{"random": []}]}, "config.yaml: controls[0].random: is empty; at least 1"),
        ({"controls": [{}]}, "config.yaml: controls[0]: is empty; at least 1"),
        ({"controls": [{"random": [0]}]}, "config.yaml: controls[0].random[0]: is 0, must be at"),
        ({"controls": [7]}, "config.yaml: controls[0]: is 7, must be of type string or object"),
        (
            {"controls": ["random", {"random": [4]}]},
            "config.yaml: controls names random twice; give it once, with all ranks",
        ),
        (
            {"serve_as": ["adapter"], "ranks": [16], "controls": [{"random": [600]}]},
            "config.yaml: rank 600 is asked for, but vLLM",
        ),
        (
            {"only_read": ["r4"]},
            'config.yaml: only_read[0]: is "r4", must be one of lowrank, other',
        ),
        ({"seed": 1e3}, "config.yaml: seed: is 1000.0, must be of type integer"),
        ({"seed": True}, "config.yaml: seed: is true, must be of type integer"),
        ({"margin": math.nan}, "config.yaml: margin: is NaN, must be of type number"),
        ({"margin": math.inf}, "config.yaml: margin: is Infinity, must be of type number"),
        ({"details": "yes"}, 'config.yaml: details: is "yes", must be of type boolean'),
        ({"other": ["move"]}, 'config.yaml: other[0]: is "move", must be one of copy, keep'),
        ({"maj_k": [8, 65]}, "config.yaml: maj_k has 65, more than samples: 64"),
        (
            {"resample": "sometimes"},
            'config.yaml: resample: is "sometimes", must be one of ask, alw',
        ),
        ({"experiment": "a/b"}, 'config.yaml: experiment: is "a/b", must be a name of letters'),
        (
            {"results": "my results"},
            'results: is "my results", must be a folder\'s path of letters',
        ),
        ({"results": "~/results"}, 'results: is "~/results", must be a folder\'s path of letters'),
        ({"results": "{here}"}, 'results: is "{here}", must be a folder\'s path of letters'),
        ({"results": "-r"}, 'results: is "-r", must be a folder\'s path of letters'),
        ({"results": ""}, 'results: is "", must be a folder\'s path of letters'),
        (
            {"experiment": "absent"},
            "no experiments/absent.yaml; there are: adapters, deepscaler",
        ),
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
        (
            "sampling.compute_dtype",
            "float16",
            "sampling.compute_dtype of sft is float16, but a model is served as bfloat16",
        ),
        ("sampling.parts", 65, "sampling.parts is 65, more than samples: 64 (config.yaml)"),
        ("sampling.max_tokens", 80.0, "sampling.max_tokens: is 80.0, must be of type integer"),
        ("sampling.temperature", 0.001, "sampling.temperature is 0.001; the engine would take"),
        ("sampling.temperature", 3, "sampling.temperature: is 3, must be at most 2"),
        ("title", None, "missing key title"),
        ("factoring.device", "tpu", 'factoring.device: is "tpu", must be one of cpu, cuda'),
        ("factoring.threads", 0, "factoring.threads: is 0, must be at least 1"),
        ("pools", {"b": {"label": "x", "benchmarks": ["b", "mini30"]}}, "has a benchmark's name"),
        ("pools", {"p": {"label": "x", "benchmarks": ["b", "c"]}}, "has 'c', which is none of"),
        (
            "pools",
            {"p": {"label": "x", "benchmarks": ["b"]}},
            "pools.p.benchmarks: has 1; at least 2",
        ),
        (
            "models.rl.shards",
            ["a.bin"],
            'shards[0]: is "a.bin", must be the name of a .safetensors',
        ),
        ("models.rl.repo", "name", 'models.rl.repo: is "name", must be a hub repository, owner/'),
        ("title", "", 'title: is "", must not be empty'),
        ("models.rl", {"label": "x", "on": "sft"}, "is on 'sft' and has no adapter"),
        ("models.rl.adapter", {"path": "a"}, "models.rl has both adapter and repo"),
        (
            "models.rl",
            {"label": "x", "adapter": {"repo": "a/b", "revision": "main"}, "on": "sft"},
            "models.rl.adapter.revision is 'main'; a 40-digit commit is needed",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"subfolder": "c"}, "on": "sft"},
            "models.rl.adapter has no source; give path, or repo and revision",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"path": "resources/mini/sft"}},
            "models.rl has an adapter and no `on`",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"path": "p"}, "on": "none"},
            "models.rl.on is 'none', which is none of models: pretrained, sft, rl",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"path": "p"}, "on": "rl"},
            "models.rl.on leads back to 'rl'",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"path": "p", "subfolder": "a/../../b"}, "on": "sft"},
            "must be a folder in the repository",
        ),
        (
            "models.rl",
            {"label": "x", "path": "resources/mini/problems.jsonl"},
            "resources/mini/problems.jsonl: is no folder; a checkpoint's folder expected",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"path": "resources/none"}, "on": "sft"},
            "models.rl.adapter.path: resources/none: no such file or folder",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"path": "resources/mini", "subfolder": "sft"}, "on": "sft"},
            "models.rl.adapter: resources/mini/sft: holds no PEFT adapter (adapter_config.json);"
            " it is a whole model: give it with path or repo, without adapter and on",
        ),
        (
            "models.rl",
            {"label": "x", "adapter": {"path": "config.yaml"}, "on": "sft"},
            "models.rl.adapter: config.yaml: Not a directory; a folder expected",
        ),
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


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("\ndelta: rl\n", "\ndelta: rl\ndelta: sft\n", "delta occurs twice, in lines 20 and 21"),
        ("  rl: {base: sft, derivative: rl}\n",
         "  rl: {base: sft, derivative: rl}\n  rl: {base: pretrained, derivative: rl}\n",
         "rl occurs twice"),
        ("  pretrained:\n", "  no:\n", "no in line 4 is read as False; a name is meant: put it in"),
        ("  pretrained:\n", "  2024-12-01:\n", "2024-12-01 in line 4 is read as datetime.date"),
        ("  pretrained:\n", "  1.5:\n", "1.5 in line 4 is read as 1.5; a name is meant: put it in"),
    ],
)  # fmt: skip
def test_keys_that_yaml_reads_otherwise_are_refused(root, old, new, said):
    text = (ROOT / "experiments/mini.yaml").read_text()
    assert text.count(old) == 1
    (root / "experiments/mine.yaml").write_text(text.replace(old, new))
    with pytest.raises(InputError) as error:
        load(CONFIG | {"experiment": "mine"}, root)
    assert str(error.value).startswith("experiments/mine.yaml: ")
    assert said in str(error.value)


def test_a_model_may_be_an_adapter_on_another_one(root, tmp_path, monkeypatch):
    """On one that is itself an adapter, too; `on` needs no quotes."""
    monkeypatch.chdir(tmp_path)
    (root / "resources").symlink_to(ROOT / "resources")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / "theirs/last").mkdir(parents=True, exist_ok=True)
        (tmp_path / "theirs/last" / name).write_text(name)
    text = (ROOT / "experiments/mini.yaml").read_text()
    theirs = "  theirs:\n    label: A\n    adapter: {path: theirs, subfolder: last}\n    on: sft\n"
    more = theirs.replace("theirs:", "more:").replace("A\n", "B\n").replace("on: sft", "on: theirs")
    hub = more.replace("more:", "hub:").replace("B\n", "C\n")
    hub = hub.replace("{path: theirs", "{repo: lab/a, revision: " + "a" * 40)
    text = text.replace("\nmodels:\n", "\nmodels:\n" + theirs + more + hub)
    (root / "experiments/mine.yaml").write_text(text)
    mine = load(CONFIG | {"experiment": "mine"}, root)
    assert mine.adapted == ["theirs", "more", "hub"]
    assert mine.fetched == ["pretrained", "sft", "rl"]
    assert mine.models["theirs"]["on"] == "sft"
    assert mine.weight_names["more"] == ["model.safetensors"]
    assert mine.source_flags("models", "theirs") == "--path=theirs --subfolder=last"
    assert mine.source_flags("models", "hub") == (
        f"--repo=lab/a --revision={'a' * 40} --subfolder=last"
    )
    assert mine.source_content("models", "hub") == "a" * 40
    before = mine.source_content("models", "theirs")
    (tmp_path / "theirs/last/README.md").write_text("of no effect")
    assert mine.source_content("models", "theirs") == before
    (tmp_path / "theirs/last/adapter_config.json").write_text("changed")
    assert mine.source_content("models", "theirs") != before
    folder = Path("results/mine/models/theirs")
    assert {folder / "manifest.json", folder / "adapter.csv"} <= set(mine.evidence())
    assert Path("results/mine/models/sft/adapter.csv") not in mine.evidence()


def test_the_order_of_keys_changes_no_flag(root):
    subject = read("mini")
    for group in ("sampling", "grading"):
        subject[group] = dict(reversed(subject[group].items()))
    (root / "experiments/mine.yaml").write_text(yaml.safe_dump(subject, sort_keys=False))
    mini, mine = load(CONFIG, ROOT), load(CONFIG | {"experiment": "mine"}, root)
    assert mini.speed_flags("rl") == mine.speed_flags("rl")
    assert mini.grading_flags("mini30") == mine.grading_flags("mini30")


def test_a_file_that_is_no_yaml_is_named(root):
    (root / "experiments/mine.yaml").write_text("models: [")
    with pytest.raises(InputError, match=r"experiments/mine\.yaml: not valid YAML"):
        load(CONFIG | {"experiment": "mine"}, root)


def test_flags_survive_a_shell():
    import shlex

    text = "it's \\boxed{} $HOME\n--first"
    said = flags({"max_tokens": 5, "user": text, "nothing": None, "leave_out": ["a", "b c"]})
    assert shlex.split(said) == ["--leave-out", "a", "b c", "--max-tokens=5", f"--user={text}"]


def test_newer_benchmarks_leave_the_posts_experiment_as_it_is():
    """Models, sampling and older benchmarks are alike, so the store's completions serve both."""
    post, newer = (load(CONFIG | {"experiment": f"deepscaler{x}"}, ROOT) for x in ("", "-2026"))
    assert list(newer.benchmarks) == [*post.benchmarks, "aime2026", "hmmt2026"]
    for key in ("models", "deltas", "sampling", "tokenizer", "grading"):
        assert newer.subject[key] == post.subject[key]
    assert all(newer.benchmarks[name] == source for name, source in post.benchmarks.items())
    assert "--problems=30" in newer.source_flags("benchmarks", "aime2026")
    assert "--answer-type=any" in newer.grading_flags("hmmt2026")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"samples": 0}, "at least 1 (samples: Completions of each problem by each model: the"),
        ({"ranks": ["x"]}, "type integer (ranks: How many singular directions"),
    ],
)
def test_an_error_says_what_the_key_is_for(change, said):
    with pytest.raises(InputError) as error:
        load(CONFIG | change, ROOT)
    assert said in str(error.value)


def test_a_missing_key_is_explained(root):
    subject = read("mini")
    del subject["sampling"]["top_p"]
    (root / "experiments/mine.yaml").write_text(yaml.safe_dump(subject))
    with pytest.raises(InputError, match=r"missing key top_p \(top_p: Nucleus sampling"):
        load(CONFIG | {"experiment": "mine"}, root)
