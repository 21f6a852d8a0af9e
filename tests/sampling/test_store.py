"""The store of completions: what was added is there, and nothing that was not written whole."""

import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from lowrank.errors import InputError
from lowrank.sampling import completions, store

SETTING = {"model": "m", "temperature": 0.6}
RUN = store.Run("cpu", {"vllm": "1"}, "tokenizer")


def made(number: int, text: str | None = None) -> store.Kept:
    """A completion of a problem of its own, with awkward text."""
    ids = np.arange(number, number + 5, dtype=np.int32)
    text = f"text {number} \ud800 \x00 \n" if text is None else text
    return store.Kept(f"key{number}", "b", f"p{number}", number, ids, text, "stop", RUN)


def fill(folder: Path, *numbers: int) -> Path:
    """A file with a block a number; its path."""
    with store.segment(folder, RUN) as opened:
        for number in numbers:
            opened.add([made(number)])
    return opened.path


def keys(folder: Path) -> list[str]:
    return [one.key for one in store.kept(folder)]


@pytest.fixture
def folder(tmp_path):
    return store.setting_folder(tmp_path / "completions", "m", SETTING)


def test_the_store_gives_back_what_was_added(folder):
    fill(folder, 0, 1)
    with store.segment(folder, RUN) as opened:
        opened.add([made(2), made(3)])
    found = sorted(store.kept(folder), key=lambda one: one.sample)
    assert [one.key for one in found] == ["key0", "key1", "key2", "key3"]
    for number, one in enumerate(found):
        expected = made(number)
        np.testing.assert_array_equal(one.ids, expected.ids)
        assert (one.benchmark, one.problem_id, one.sample) == ("b", f"p{number}", number)
        assert (one.text, one.finish, one.run) == (expected.text, "stop", RUN)


def test_the_oldest_file_is_read_first_and_its_completion_is_the_one_that_counts(folder):
    """Whoever made one first: a table must not change when another process makes it again."""
    for when, text in (("2", "later"), ("1", "first"), ("3", "last")):
        with store.segment(folder, RUN) as opened:
            opened.add([made(0, text)])
        opened.path.rename(folder / f"2026010{when}T000000-host-1-aa.jsonl.gz")
    assert [one.text for one in store.kept(folder)] == ["first", "later", "last"]
    for resample in ("ask", "never", "when-versions-change"):
        taken = completions.take(folder, {"key0": None}, RUN.versions, resample)
        assert [one.text for one in taken.values()] == ["first"]


def test_a_completion_is_of_its_prompt_its_seed_and_its_limit():
    keys = {
        store.completion_key(*of) for of in (("p", 1, 9), ("q", 1, 9), ("p", 2, 9), ("p", 1, 8))
    }
    assert len(keys) == 4


def test_other_tools_can_read_it(folder):
    path = fill(folder, 0, 1)
    shown = subprocess.run(["zcat", path], capture_output=True, check=True).stdout
    assert shown.count(b"\n") == 2
    assert shown.count(b'"problem_id": "p1"') == 1


def test_a_file_cut_anywhere_keeps_its_whole_blocks(folder, capsys):
    path = fill(folder, *range(6))
    content = path.read_bytes()
    ends = [*[start for start, _ in store._blocks(path)][1:], len(content)]
    for length in {*range(0, len(content), 7), *ends}:
        path.write_bytes(content[:length])
        assert keys(folder) == [f"key{i}" for i in range(sum(end <= length for end in ends))]
        assert ("not whole" in capsys.readouterr().err) == (length not in [0, *ends])


def test_a_damaged_block_is_said_and_costs_itself_alone(folder, capsys):
    path = fill(folder, *range(6))
    content = path.read_bytes()
    starts = [start for start, _ in store._blocks(path)]
    for place in range(starts[2], starts[3]):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x10]) + content[place + 1 :])
        found = keys(folder)
        said = capsys.readouterr().err
        # A few bits of a gzip header carry no meaning (its time, its system): nothing is lost.
        if found != [f"key{i}" for i in range(6)]:
            assert found == ["key0", "key1", "key3", "key4", "key5"]
            assert f"bytes {starts[2]} to {starts[3] - 1} are damaged" in said
            assert str(path) in said


def test_a_block_of_something_else_is_said_and_left_out(folder, capsys):
    path = fill(folder, 0)
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    with path.open("ab") as file:
        file.write(packer.compress(b"[1, 2]\n") + packer.flush())
    assert keys(folder) == ["key0"]
    assert "is not one of this store" in capsys.readouterr().err


def test_a_completion_is_in_the_file_as_soon_as_it_is_added(folder):
    with store.segment(folder, RUN) as opened:
        opened.add([made(0)])
        assert keys(folder) == ["key0"]


def test_nothing_added_leaves_no_file(folder):
    with store.segment(folder, RUN) as opened:
        opened.add([])
    assert sorted(path.name for path in folder.iterdir()) == ["setting.json"]


def test_a_full_disk_keeps_what_was_finished_and_no_half_block(folder):
    class Full:
        """A file on a disk with room for 100 more bytes, which it takes 60 at a time."""

        def __init__(self, file):
            self.file, self.room = file, 100

        def write(self, content):
            if not self.room:
                raise OSError(28, "No space left on device")
            taken = min(len(content), 60, self.room)
            self.room -= taken
            return self.file.write(content[:taken])

        def __getattr__(self, name):
            return getattr(self.file, name)

    with store.segment(folder, RUN) as opened:
        opened.add([made(0)])
        before = opened.path.stat().st_size
        opened.file = Full(opened.file)
        with pytest.raises(InputError, match="No space left on device; what was finished before"):
            opened.add([made(1)])
    assert opened.path.stat().st_size == before
    assert keys(folder) == ["key0"]
    assert sum(1 for _ in store._blocks(opened.path)) == 1


def test_a_short_write_is_no_lost_write(folder):
    class Slow:
        def __init__(self, file):
            self.file = file

        def write(self, content):
            return self.file.write(content[:7])

        def __getattr__(self, name):
            return getattr(self.file, name)

    with store.segment(folder, RUN) as opened:
        opened.file = Slow(opened.file)
        opened.add([made(0), made(1)])
    assert keys(folder) == ["key0", "key1"]


def test_two_settings_never_share_a_folder(tmp_path):
    one = store.setting_folder(tmp_path, "m", SETTING)
    assert store.setting_folder(tmp_path, "m", dict(reversed(SETTING.items()))) == one
    assert store.setting_folder(tmp_path, "m", SETTING | {"temperature": 0.7}) != one
    (one / "setting.json").write_text('{"model": "m", "temperature": 0.7}')
    with pytest.raises(InputError, match="is not the setting that the folder is named after"):
        store.setting_folder(tmp_path, "m", SETTING)


def test_a_model_name_cannot_lead_out_of_the_store(tmp_path):
    folder = store.setting_folder(tmp_path / "store", "../../m", SETTING)
    assert folder.parent == tmp_path / "store"
