"""Every listed fault applies to the code as it is; running them all is for the command (run.py)."""

from collections import Counter
from pathlib import Path

import pytest
import run

ROOT = Path(__file__).parents[2]
# Wings whose wiring a change could break in silence: five faults a module, at least.
COMPLETE = ("plan", "delta", "variants", "sampling", "grading", "metrics", "report")
LISTED = {path.stem for path in Path(__file__).parent.glob("*.yaml")}


@pytest.mark.parametrize("wing", sorted(LISTED))
def test_every_entry_of_a_list_applies(wing):
    mutants = run.read_mutants(ROOT, [wing])
    assert run.faults_of_lists(ROOT, mutants) == []
    assert len(mutants) == len({(mutant.file, mutant.old, mutant.new) for mutant in mutants})


@pytest.mark.parametrize("wing", [wing for wing in COMPLETE if wing in LISTED])
def test_every_module_has_five_mutants(wing):
    number = Counter(mutant.file for mutant in run.read_mutants(ROOT, [wing]))
    for path in sorted((ROOT / "scripts/lowrank" / wing).glob("*.py")):
        if "def " in path.read_text():  # there is something to break
            assert number[str(path.relative_to(ROOT))] >= 5, path.name


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A repository with a function, a test that knows half of it, and a list of two faults."""
    files = {
        "scripts/lowrank/toy/parity.py": "def odd(n):\n    return n % 2 == 1\n",
        "tests/toy/test_parity.py": (
            "from lowrank.toy.parity import odd\n\ndef test_one():\n    assert odd(1)\n"
        ),
        "tests/mutants/toy.yaml": """
- {file: scripts/lowrank/toy/parity.py, says: even for odd, old: == 1, new: == 0}
- {file: scripts/lowrank/toy/parity.py, says: of three, old: "% 2", new: "% 3"}
""",
        "pyproject.toml": '[tool.pytest.ini_options]\npythonpath = ["scripts"]\n',
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_a_mutant_is_killed_and_a_survivor_named(toy, capsys):
    before = (toy / "scripts/lowrank/toy/parity.py").read_text()
    assert run.main([], toy) == 1
    said = capsys.readouterr().out
    assert "killed  scripts/lowrank/toy/parity.py: even for odd" in said
    assert "1 of 2 mutants killed" in said
    assert "survived: scripts/lowrank/toy/parity.py: of three" in said
    assert (toy / "scripts/lowrank/toy/parity.py").read_text() == before


def test_all_killed_is_success_and_a_hang_counts(toy, capsys):
    (toy / "tests/mutants/toy.yaml").write_text(
        "- {file: scripts/lowrank/toy/parity.py, says: hangs, old: return, new: 'while True: n %'}"
    )
    assert run.main(["toy", "--jobs", "1", "--limit", "5"], toy) == 0
    assert "killed (hung)  scripts/lowrank/toy/parity.py: hangs" in capsys.readouterr().out


def test_tests_that_fail_anyway_stop_it(toy, capsys):
    with (toy / "tests/toy/test_parity.py").open("a") as test:
        test.write("\ndef test_two():\n    assert odd(2)\n")
    assert run.main([], toy) == 1
    said = capsys.readouterr().out
    assert "Tests fail without any mutant" in said
    assert "killed" not in said


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        ("old: '%', new: '+'", None),
        ("old: n, new: m", "occurs 3 times, not once"),
        ("old: minus, new: plus", "occurs 0 times, not once"),
        ("old: return, new: return return", "no valid Python"),
        ("old: '%', new: '%'", "the same"),
        ("old: '%', new: +, tests: [tests/toy/test_other.py]", "no such file"),
        ("old: '%', new: +, tests: ['tests/toy/test_parity.py::test_two']", "no such test"),
    ],
)
def test_an_entry_that_does_not_apply_is_named(toy, capsys, entry, complaint):
    (toy / "tests/mutants/toy.yaml").write_text(
        f"- {{file: scripts/lowrank/toy/parity.py, says: fault, {entry}}}"
    )
    wrong = run.faults_of_lists(toy, run.read_mutants(toy))
    assert [complaint in sentence for sentence in wrong] == ([True] if complaint else [])
    if complaint:
        assert run.main([], toy) == 1
        assert complaint in capsys.readouterr().err


def test_what_to_run_can_be_named(toy, capsys):
    assert run.main(["--list"], toy) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    for name in ("toy", "tests/mutants/toy.yaml", "scripts/lowrank/toy/parity.py"):
        assert len(run.read_mutants(toy, [name])) == 2
    with pytest.raises(SystemExit):
        run.main(["nothing"], toy)
