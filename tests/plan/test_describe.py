"""The resolved experiment as a file: whole, however long, and the only one of its folder."""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "scripts/describe.py"


def describe(output: Path, said: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, PROGRAM, "--output", output]
    return subprocess.run(command, input=said, capture_output=True, text=True, encoding="utf-8")


def test_what_is_asked_is_written_and_earlier_questions_go(tmp_path):
    (tmp_path / "asked-0.json").write_text("{}")
    (tmp_path / "other.json").write_text("{}")
    # Longer than one argument of a command may be.
    content = {"title": "→ \\boxed{} $HOME", "variants": {f"r{n}-copy": n for n in range(20_000)}}
    done = describe(tmp_path / "asked-1.json", json.dumps(content, ensure_ascii=False))
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((tmp_path / "asked-1.json").read_text("utf-8")) == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["asked-1.json", "other.json"]


def test_what_is_no_json_leaves_nothing(tmp_path):
    done = describe(tmp_path / "asked-1.json", "{")
    assert done.returncode == 1
    assert done.stderr.startswith("error: standard input is no JSON")
    assert list(tmp_path.iterdir()) == []
