"""What reruns a job is content, and only the content that the job's program sees."""

import os

import pytest

from lowrank.plan import digest
from lowrank.plan.digest import code_digest, source_digest


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/__init__.py").write_text("")
    (tmp_path / "lib/a.py").write_text("from lib.b import thing\n")
    (tmp_path / "lib/b.py").write_text("thing = 1\n")
    (tmp_path / "lib/c.py").write_text("other = 1\n")
    (tmp_path / "lib/late.py").write_text("late = 1\n")
    (tmp_path / "program.py").write_text(
        "import json\nfrom lib import a\ndef f():\n    import lib.late\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("edited", "changes"),
    [
        ("program.py", True),
        ("lib/a.py", True),
        ("lib/b.py", True),  # imported by an import
        ("lib/late.py", True),  # imported inside a function
        ("lib/__init__.py", True),
        ("lib/c.py", False),  # not imported
    ],
)
def test_the_digest_follows_the_imports(scripts, edited, changes):
    before = code_digest(scripts / "program.py")
    with (scripts / edited).open("a") as file:
        file.write("# edited\n")
    assert (code_digest(scripts / "program.py") != before) is changes


def test_neither_times_nor_the_folder_matter(scripts, tmp_path_factory):
    before = code_digest(scripts / "program.py")
    os.utime(scripts / "program.py", (1, 1))
    moved = scripts.rename(tmp_path_factory.mktemp("clone") / "scripts")
    assert code_digest(moved / "program.py") == before


def test_a_source_is_its_names_and_bytes(tmp_path):
    config, other = tmp_path / "config.json", tmp_path / "other.json"
    config.write_text("{}")
    first = source_digest(config)
    os.utime(config, (1, 1))
    assert source_digest(config) == first
    config.write_text("[]")
    assert source_digest(config) != first
    other.write_text("{}")
    assert source_digest(other) != first
    both = source_digest(config, other)
    assert both not in (source_digest(config), source_digest(other))
    assert source_digest(other, config) == both
    assert source_digest(config, tmp_path / "absent") == "missing"


def test_large_files_are_sampled_from_end_to_end(tmp_path, monkeypatch):
    monkeypatch.setattr(digest, "WHOLE", 1000)
    monkeypatch.setattr(digest, "BLOCK", 100)
    file = tmp_path / "weights"
    content = bytearray(5000)
    file.write_bytes(content)
    seen = {source_digest(file)}
    for at in (0, 4999):
        changed = bytearray(content)
        changed[at] = 1
        file.write_bytes(changed)
        seen.add(source_digest(file))
    file.write_bytes(content + b"\0")
    seen.add(source_digest(file))
    assert len(seen) == 4


def test_a_source_is_read_once_until_it_changes(tmp_path, monkeypatch):
    """A plan asks for a local model's digest once a job; it must not read gigabytes each time."""
    source = tmp_path / "weights"
    source.write_bytes(b"one")
    read = []
    hashed = digest.hashlib.file_digest
    monkeypatch.setattr(
        digest.hashlib, "file_digest", lambda file, kind: read.append(1) or hashed(file, kind)
    )
    first = source_digest(source)
    assert source_digest(source) == first
    assert len(read) == 1
    source.write_bytes(b"two")
    os.utime(source, (1, 1))
    assert source_digest(source) != first


def test_a_module_under_another_name_is_another_program(tmp_path, monkeypatch):
    """The same bytes, found under the one or the other of two names that are tried."""
    monkeypatch.setattr(digest, "ROOT", tmp_path)
    (tmp_path / "program.py").write_text("try:\n    import a\nexcept ImportError:\n    import b\n")
    (tmp_path / "a.py").write_text("x = 1\n")
    before = code_digest("program.py")
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert code_digest("program.py") != before
