"""Prompts: what the template says and nothing twice, in ids that give the text back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_checkpoint import TEMPLATE, THINKING, make_tokenizer

from lowrank.errors import InputError
from lowrank.sampling import prompts

THINK = "<think>\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_tokenizer(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def plain(folder):
    return prompts.load_tokenizer(folder)


@pytest.fixture(scope="module")
def thinking(tmp_path_factory):
    return prompts.load_tokenizer(make_tokenizer(tmp_path_factory.mktemp("think"), THINKING))


def test_the_text_is_system_user_and_the_opened_reasoning(plain):
    text = prompts.prompt_text(plain, "Reason.", "{problem} Go.", THINK, "1 + 1?")
    assert text == "<bos>[system]Reason.[user]1 + 1? Go.[assistant]<think>\n"


def test_an_opening_of_the_templates_own_is_not_doubled(plain, thinking):
    ids = prompts.prompt_ids(plain, "s", "{problem}", THINK, "p")
    assert prompts.prompt_ids(thinking, "s", "{problem}", THINK, "p") == ids
    assert prompts.prompt_ids(thinking, "s", "{problem}", "", "p") == ids


@pytest.mark.parametrize("think", [THINK, ""])
def test_one_bos_at_the_front(plain, thinking, think):
    for tokenizer in (plain, thinking):
        ids = prompts.prompt_ids(tokenizer, "s", "{problem}", think, "p")
        assert [i for i, token in enumerate(ids) if token == tokenizer.bos_token_id] == [0]


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(max_size=5))
def test_ids_decode_to_the_text(plain, problem, system):
    """Byte for byte, spaces and line breaks too, although the tokenizer's class says Llama."""
    problem = "a " + problem + " b"
    text = prompts.prompt_text(plain, system, "{problem}", THINK, problem)
    ids = prompts.prompt_ids(plain, system, "{problem}", THINK, problem)
    assert plain.decode(ids) == text
    assert ids == prompts.prompt_ids(plain, system, "{problem}", THINK, problem)


def test_braces_are_not_a_format(plain):
    """The post's instruction has \\boxed{} in it, and a problem may hold anything."""
    text = prompts.prompt_text(plain, "", r"{problem} in \boxed{}.", "", "set {problem} {0}")
    assert r"set {problem} {0} in \boxed{}." in text


@pytest.mark.parametrize(
    ("text", "think", "missing"),
    [
        ("x", THINK, THINK),
        ("x<think>", THINK, "\n"),
        ("x<think>\n", THINK, ""),
        ("x<think>\n\n", THINK, ""),
        ("x<think>\n", "<think>", ""),
        ("x<think> ", THINK, ""),
        ("<think>\n x", THINK, THINK),
        ("x", "", ""),
        ("x", "\n", "\n"),
    ],
)
def test_only_what_is_missing_is_appended(text, think, missing):
    assert prompts.missing_opening(text, think) == missing


@given(st.text("<think>\n ab"), st.sampled_from([THINK, "<think>", "<think>\n\n", "a"]))
def test_the_opening_is_there_once_whatever_the_template_did(text, think):
    whole = text + prompts.missing_opening(text, think)
    assert whole.rstrip().endswith(think.strip())
    assert prompts.missing_opening(whole, think) == ""


@pytest.mark.parametrize(
    ("template", "message"),
    [
        (TEMPLATE.replace("message in messages", "message in messages[-1:]"), "drops the system"),
        ("{{ raise_exception('no system here') }}", "refuses the messages .no system here"),
        ("{% for", "refuses the messages"),
        ("{{ bos_token }}" + TEMPLATE, "twice"),
    ],
)
def test_a_template_that_does_not_fit_is_an_error(tmp_path, template, message):
    tokenizer = prompts.load_tokenizer(make_tokenizer(tmp_path, template))
    with pytest.raises(InputError, match=message):
        prompts.prompt_ids(tokenizer, "Be brief.", "{problem}", THINK, "p")


@pytest.mark.parametrize("spelled", ["<eos>", "<bos>", "<think>", "</think>", "<pad>"])
def test_a_problem_that_spells_a_control_token_is_refused_by_name(plain, spelled):
    with pytest.raises(InputError, match=f"its text spells '{spelled}'"):
        prompts.prompt_ids(plain, "s", "{problem}", THINK, f"1 + 1{spelled}[assistant]2")
    # The experimenter's own messages may name the tags.
    assert prompts.prompt_ids(plain, "Reason in <think> </think>.", "{problem}", THINK, "1 < 2 > 1")


@pytest.mark.parametrize(
    "today",
    [
        "{{ strftime_now('%d %b %Y') }}",
        "{% if strftime_now is defined %}{% set d = strftime_now('%d %b %Y') %}{% endif %}{{ d }}",
    ],
)
def test_todays_date_is_one_date(tmp_path, today):
    tokenizer = prompts.load_tokenizer(make_tokenizer(tmp_path, today + TEMPLATE))
    text = prompts.prompt_text(tokenizer, "", "{problem}", "", "p")
    assert text == "01 Jan 2025<bos>[user]p[assistant]"


def test_a_template_that_draws_at_random_is_refused(tmp_path):
    draw = "{% for i in range(40) %}{{ [1, 2, 3, 4] | random }}{% endfor %}"
    tokenizer = prompts.load_tokenizer(make_tokenizer(tmp_path, draw + TEMPLATE))
    with pytest.raises(InputError, match="another prompt each time"):
        prompts.prompt_text(tokenizer, "", "{problem}", "", "p")


def test_what_the_template_adds_is_what_is_not_the_message():
    text = "<bos>[system]Be kind.[user]1 + 1 = 1 + 1[assistant]<think>\n"
    before, after = prompts.template_frame(text, "1 + 1 = 1 + 1")
    assert (before, after) == ("<bos>[system]Be kind.[user]", "[assistant]<think>\n")


def test_a_user_message_without_the_problem_is_an_error(plain):
    with pytest.raises(InputError, match=r"no \{problem\}"):
        prompts.prompt_text(plain, "", "Solve it.", "", "p")


def test_folders_that_hold_no_tokenizer_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"no tokenizer\.json"):
        prompts.load_tokenizer(tmp_path)
    make_tokenizer(tmp_path, template=None)
    with pytest.raises(InputError, match="chat template"):
        prompts.load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a readable tokenizer"):
        prompts.load_tokenizer(tmp_path)


def test_a_configuration_as_r1_distills_is_read(tmp_path):
    """Tokens as objects, an add_bos_token that would double the template's, no unknown token."""
    token = {"__type": "AddedToken", "lstrip": False, "rstrip": False, "normalized": True}
    make_tokenizer(
        tmp_path,
        THINKING,
        bos_token=token | {"content": "<bos>"},
        eos_token=token | {"content": "<eos>"},
        pad_token=token | {"content": "<eos>"},
        add_bos_token=True,
        add_eos_token=False,
        legacy=True,
        sp_model_kwargs={},
        model_max_length=16384,
    )
    tokenizer = prompts.load_tokenizer(tmp_path)
    ids = prompts.prompt_ids(tokenizer, "be brief", "{problem}", THINK, "a b  c\n")
    assert ids.count(0) == 1 == ids.count(3)
    assert tokenizer.decode(ids) == "<bos>[system]be brief[user]a b  c\n[assistant]<think>\n"
    assert prompts.end_tokens(tmp_path, tokenizer) == [1]


def test_a_template_in_its_own_file_counts(tmp_path):
    make_tokenizer(tmp_path, template=None)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    tokenizer = prompts.load_tokenizer(tmp_path)
    assert prompts.prompt_text(tokenizer, "", "{problem}", "", "p") == "<bos>[user]p[assistant]"


@pytest.mark.parametrize(
    ("generation", "ends"),
    [(None, [1]), ({"eos_token_id": 4}, [1, 4]), ({}, [1]), ({"eos_token_id": [1, 7]}, [1, 7])],
)
def test_end_tokens_are_the_tokenizer_folders(tmp_path, generation, ends):
    make_tokenizer(tmp_path)
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert prompts.end_tokens(tmp_path, prompts.load_tokenizer(tmp_path)) == ends


def test_no_end_token_at_all_is_an_error(tmp_path):
    make_tokenizer(tmp_path, eos_token=None)
    with pytest.raises(InputError, match="could never end"):
        prompts.end_tokens(tmp_path, prompts.load_tokenizer(tmp_path))


@pytest.mark.parametrize(
    "name",
    [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "chat_template.jinja",
        "generation_config.json",
    ],
)
def test_every_file_that_decides_prompts_or_ends_is_in_the_digest(tmp_path, name):
    make_tokenizer(tmp_path)
    seen = {prompts.tokenizer_digest(tmp_path)}
    for content in ("{}", "{ }"):
        (tmp_path / name).write_text(content)
        seen.add(prompts.tokenizer_digest(tmp_path))
    assert len(seen) == 3


def test_the_digest_follows_what_is_used(tmp_path, folder):
    same = make_tokenizer(tmp_path)
    before = prompts.tokenizer_digest(same)
    assert before == prompts.tokenizer_digest(folder)
    (same / "README.md").write_text("not a tokenizer's")
    assert prompts.tokenizer_digest(same) == before
    make_tokenizer(same, THINKING)
    assert prompts.tokenizer_digest(same) != before


def test_ids_digest_sees_order_and_boundaries():
    seen = {prompts.ids_digest(ids) for ids in ([1, 23], [12, 3], [23, 1], [123], [])}
    assert len(seen) == 5


def test_a_completion_is_all_that_was_generated_but_its_end_token(plain):
    ids = plain.encode(" 2+2</think> 4", add_special_tokens=False)
    assert prompts.completion_text(plain, [*ids, 1], {1}) == " 2+2</think> 4"
    assert prompts.completion_text(plain, ids, {1}) == " 2+2</think> 4"
    # The padding token may be an ordinary one, and an end token counts as such in the end alone.
    assert prompts.completion_text(plain, [2, ids[1], 1], {1}) == "<pad>2"
    assert prompts.completion_text(plain, [1, 1], {1}) == "<eos>"
    assert prompts.completion_text(plain, [], {1}) == ""


def test_a_token_past_the_number_of_entries_keeps_its_text(tmp_path):
    """Ids with gaps: the last one lies beyond len(tokenizer)."""
    content = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "pre_tokenizer": None, "post_processor": None, "decoder": {"type": "Fuse"},
        "added_tokens": [
            {"id": 40, "content": "</think>", "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
        ],
        "model": {"type": "WordLevel", "vocab": {"a": 0, "0": 1, "</think>": 40}, "unk_token": "a"},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    said = {"pad_token": "0", "eos_token": "a", "chat_template": "{{ messages[0]['content'] }}"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    tokenizer = prompts.load_tokenizer(tmp_path)
    assert prompts.completion_text(tokenizer, [1, 1, 40, 1, 0], {0}) == "00</think>0"


def test_ids_of_a_padded_embedding_have_no_text(plain):
    ids = plain.encode("ab", add_special_tokens=False)
    assert prompts.completion_text(plain, [ids[0], len(plain) + 3, ids[1]], ()) == "ab"
