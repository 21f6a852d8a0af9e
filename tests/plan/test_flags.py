"""Keys and values as the command line of a program."""

import shlex

from lowrank.plan.flags import flags, folder_flag


def test_keys_become_flags_and_what_says_nothing_is_left_out():
    given = {"top_p": 0.9, "details": True, "seed": 0, "compute_dtype": None, "padded": False,
             "leave_out": [], "ranks": [1, 4]}  # fmt: skip
    assert shlex.split(flags(given)) == [
        "--details",
        "--ranks",
        "1",
        "4",
        "--seed=0",
        "--top-p=0.9",
    ]
    assert flags({}) == ""


def test_the_order_of_keys_changes_no_command():
    assert flags({"a": 1, "b": 2}) == flags({"b": 2, "a": 1})


def test_a_value_stays_one_word_of_the_shell():
    said = {"user": "it's $HOME; `x`\nand more", "leave_out": ["a b", "*"]}
    assert shlex.split(flags(said)) == ["--leave-out", "a b", "*", f"--user={said['user']}"]


def test_a_file_stands_for_its_folder():
    assert folder_flag("adapter", ["results/a b/adapter.json"]) == "--adapter 'results/a b'"
    assert folder_flag("adapter", []) == ""
