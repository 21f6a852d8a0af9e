"""The library is laid out by phase: a wing knows the ground and the wings before it, no other."""

import ast
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[1] / "scripts/lowrank"
# In the order in which the data flows; what every wing stands on lies beside them.
WINGS = (
    "plan", "models", "delta", "variants", "sampling", "grading", "divergence", "metrics", "report",
    "train",
)  # fmt: skip
# What reads everything before it and is read by nothing after it.
LAST = {"report", "train"}


def imported(path: Path) -> set[tuple[str, ...]]:
    """Modules of the library that a file names, wherever in it: ("models", "hub"), ("files",)."""
    found = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "lowrank":
            parts = tuple(node.module.split(".")[1:])
            found |= {(*parts, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {tuple(parts[1:]) for parts in names if parts[0] == "lowrank"}
    return {module(parts) for parts in found}


def module(parts: tuple[str, ...]) -> tuple[str, ...]:
    """The module that dotted names lead into: ("files", "sha256") is of ("files",)."""
    for length in range(len(parts), 0, -1):
        if LIBRARY.joinpath(*parts[:length]).with_suffix(".py").is_file():
            return parts[:length]
    raise AssertionError(f"no module {'.'.join(parts)}")


FILES = {
    path.relative_to(LIBRARY).with_suffix("").parts: path
    for path in sorted(LIBRARY.rglob("*.py"))
    if path.name != "__init__.py"
}
GRAPH = {name: imported(path) for name, path in FILES.items()}


def test_every_folder_is_a_wing_and_says_what_it_is():
    folders = {path.parent.name for path in LIBRARY.glob("*/__init__.py")}
    assert folders == set(WINGS)
    assert not list(LIBRARY.glob("*/*/*.py"))
    for wing in WINGS:
        assert ast.get_docstring(ast.parse((LIBRARY / wing / "__init__.py").read_text()))


@pytest.mark.parametrize("name", FILES, ids=".".join)
def test_a_module_imports_the_ground_and_wings_before_its_own(name):
    for other in GRAPH[name]:
        if len(name) == 1:
            assert len(other) == 1, f"{name[0]} is ground and imports {'.'.join(other)}"
        elif len(other) == 2 and other[0] != name[0]:
            assert WINGS.index(other[0]) < WINGS.index(name[0]), f"imports {'.'.join(other)}"
            assert other[0] not in LAST, f"imports {'.'.join(other)}"


def test_no_circle():
    waiting = dict(GRAPH)
    while waiting:
        free = [name for name, others in waiting.items() if not others & set(waiting)]
        assert free, f"import one another: {sorted('.'.join(name) for name in waiting)}"
        for name in free:
            del waiting[name]


def test_no_module_is_too_long_to_read_at_once():
    lengths = {path.name: len(path.read_text().splitlines()) for path in FILES.values()}
    assert max(lengths.values()) <= 400, max(lengths, key=lengths.get)


def test_no_two_files_of_tests_share_a_name():
    """pytest imports them by their bare names: the second of two would not be collected."""
    names = [path.name for path in (LIBRARY.parents[1] / "tests").rglob("*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
