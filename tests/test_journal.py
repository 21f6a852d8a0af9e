"""The journal: what was added is there, and nothing that was not written whole."""

import pytest

from lowrank import journal
from lowrank.errors import InputError


def fill(path, digest="d", keys=(("p", 0), ("p", 1), ("q", 0))):
    with journal.open_journal(path, digest) as opened:
        opened.begin_run("cpu")
        for key in keys:
            opened.add(key, f"text of {key} \ud800 \x00 \n", 3, "stop")


def test_a_journal_gives_back_what_was_added(tmp_path):
    path = tmp_path / "j.jsonl"
    fill(path)
    with journal.open_journal(path, "d") as opened:
        assert list(opened.done) == [("p", 0), ("p", 1), ("q", 0)]
        assert opened.done["p", 1]["text"] == "text of ('p', 1) \ud800 \x00 \n"
        assert opened.runs == [{"device": "cpu", "completions": 3}]


def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "j.jsonl"
    fill(path)
    content = path.read_bytes()
    ends = [place for place, byte in enumerate(content) if byte == ord("\n")]
    cuts = {*range(0, len(content), 9), *ends, *(end + 1 for end in ends)}
    for length in sorted(cuts - {len(content)}):
        path.write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        with journal.open_journal(path, "d") as opened:
            assert len(opened.done) == max(whole - 2, 0)
            opened.begin_run("cpu")
            opened.add(("r", 5), "more", 1, "length")
        with journal.open_journal(path, "d") as opened:
            assert len(opened.done) == max(whole - 2, 0) + 1
    assert not list(tmp_path.glob("*.stale"))


def test_lines_after_a_damaged_one_are_not_believed(tmp_path):
    path = tmp_path / "j.jsonl"
    fill(path)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = b"\0" * (len(lines[3]) - 1) + b"\n"
    path.write_bytes(b"".join(lines))
    with journal.open_journal(path, "d") as opened:
        assert list(opened.done) == [("p", 0)]


def test_a_completion_is_in_the_file_as_soon_as_it_is_added(tmp_path):
    path = tmp_path / "j.jsonl"
    with journal.open_journal(path, "d") as opened:
        opened.begin_run("cpu")
        opened.add(("p", 0), "text", 1, "stop")
        assert path.read_text().endswith('"text": "text", "tokens": 1, "finish": "stop"}\n')


def test_a_shard_is_sampled_by_one_process_at_a_time(tmp_path):
    path = tmp_path / "j.jsonl"
    with (
        journal.open_journal(path, "d"),
        pytest.raises(InputError, match="another process is sampling this shard"),
        journal.open_journal(path, "d"),
    ):
        pass
