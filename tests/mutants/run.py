"""Put faults into the code one by one and run the tests that should notice: who tests the tests?

tests/mutants/<wing>.yaml lists the faults of a wing, each with

  file    the file to change, from the repository's root
  says    what the fault is, in a few words
  old     text that occurs exactly once in the file
  new     what to put in its place
  tests   test files or node ids that should notice (default: tests/<wing>/test_<module>.py)

Every fault is put alone into a copy of the repository, and its tests run there. It is killed if a
test fails, and survives if all pass: then a test is missing, or the fault is none. A run that takes
longer than --limit is stopped and counts as killed. The tests are run on the unchanged code first.

The exit status is 1 if a fault survives or does not apply, or if a test fails without it.

Examples:
  python tests/mutants/run.py                       all of them, two at a time
  python tests/mutants/run.py sampling plan         those of two wings
  python tests/mutants/run.py scripts/lowrank/sampling/store.py --jobs 1
"""

import argparse
import ast
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
LISTS = Path("tests/mutants")
MODULE = re.compile(r"scripts/lowrank/(\w+)/(\w+)\.py")
# Nothing of these is code; results and environments may be large.
LEFT_OUT = shutil.ignore_patterns(".*", "results", "__pycache__", "*.egg-info")


@dataclass(frozen=True)
class Mutant:
    """One fault, and the tests that should notice it."""

    wing: str
    file: str
    says: str
    old: str
    new: str
    tests: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}: {self.says}"


def read_mutants(root: Path, only: Sequence[str] = ()) -> list[Mutant]:
    """The faults of all lists, or of the wings, lists and files that `only` names.

    ValueError for a name that chooses none, or an entry that is not as described above.
    """
    found = [
        _mutant(path.stem, number, entry)
        for path in sorted((root / LISTS).glob("*.yaml"))
        for number, entry in enumerate(yaml.safe_load(path.read_text(encoding="utf-8")), start=1)
    ]
    names = {name: {name, f"{LISTS}/{name}.yaml"} for name in {one.wing for one in found}}
    for name in only:
        if not any(name in {one.file, *names[one.wing]} for one in found):
            raise ValueError(f"{name}: no wing and no file with a list of mutants")
    return [one for one in found if not only or {one.file, *names[one.wing]} & set(only)]


def _mutant(wing: str, number: int, entry: dict) -> Mutant:
    where = f"{LISTS}/{wing}.yaml: entry {number}"
    keys = {"file", "says", "old", "new"}
    if not isinstance(entry, dict) or set(entry) - {"tests"} != keys:
        raise ValueError(f"{where}: needs file, says, old and new, and may have tests")
    if not all(isinstance(entry[key], str) for key in keys):
        raise ValueError(f"{where}: file, says, old and new are texts; put them in quotes")
    tests = entry.get("tests")
    if not tests and (module := MODULE.fullmatch(entry["file"])):
        tests = [f"tests/{module[1]}/test_{module[2]}.py"]
    if not tests:
        raise ValueError(f"{where}: {entry['file']} is no module of a wing; name its tests")
    return Mutant(wing, *(entry[key] for key in ("file", "says", "old", "new")), tuple(tests))


def changed(root: Path, mutant: Mutant) -> str:
    """The text of the mutant's file with the fault in it; ValueError if it does not apply."""
    path = root / mutant.file
    if not path.is_file():
        raise ValueError(f"{mutant}: no such file")
    text = path.read_text(encoding="utf-8")
    if (times := text.count(mutant.old)) != 1:
        raise ValueError(f"{mutant}: {mutant.old!r} occurs {times} times, not once")
    if mutant.new == mutant.old:
        raise ValueError(f"{mutant}: old and new are the same")
    for test in mutant.tests:
        file, *names = test.split("::")
        if not (root / file).is_file():
            raise ValueError(f"{mutant}: names {test}, and there is no such file")
        source = (root / file).read_text(encoding="utf-8")
        for name in names:
            if not re.search(rf"\b(def|class) {re.escape(name.split('[')[0])}\b", source):
                raise ValueError(f"{mutant}: names {test}, and there is no such test")
    text = text.replace(mutant.old, mutant.new)
    if path.suffix == ".py":
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise ValueError(f"{mutant}: is no valid Python then ({error})") from None
    return text


def faults_of_lists(root: Path, mutants: Iterable[Mutant]) -> list[str]:
    """What is wrong with mutants that do not apply, one sentence each."""
    wrong = []
    for mutant in mutants:
        try:
            changed(root, mutant)
        except ValueError as error:
            wrong.append(str(error))
    return wrong


def run_tests(root: Path, tests: Sequence[str], limit: float) -> tuple[str, str]:
    """("passed", "failed" or "hung", the output) of pytest in a copy of the repository."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    # A file changed twice in a second would be taken from its bytecode. One thread each, as
    # several copies run at a time. Nothing of the user's Python or of a pytest that runs this.
    settings = {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYT")}
    with subprocess.Popen(
        [*command, f"--basetemp={root.parent / 'temporary'}", *tests],
        cwd=root,
        env=kept | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return "hung", ""
    return "failed" if process.returncode else "passed", output


def try_mutant(root: Path, mutant: Mutant, limit: float) -> str:
    """ "killed", "killed (hung)" or "SURVIVED"; the copy is afterwards as before."""
    path = root / mutant.file
    before = path.read_bytes()
    try:
        path.write_text(changed(root, mutant), encoding="utf-8")
        result, _ = run_tests(root, mutant.tests, limit)
    finally:
        path.write_bytes(before)
    return {"passed": "SURVIVED", "failed": "killed", "hung": "killed (hung)"}[result]


@contextmanager
def copies(root: Path, jobs: int) -> Iterator["queue.Queue[Path]"]:
    """As many copies of the repository, to be taken and put back."""
    free: queue.Queue[Path] = queue.Queue()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for job in range(jobs):
            copy = Path(folder, str(job), "repository")
            shutil.copytree(root, copy, symlinks=True, ignore=LEFT_OUT)
            free.put(copy)
        yield free


def try_all(
    root: Path,
    mutants: Sequence[Mutant],
    jobs: int,
    limit: float,
    say: Callable[[str], None] = print,
) -> bool:
    """Whether all tests pass without the mutants and none survives; says a line each."""
    wings: dict[str, dict[str, None]] = {}
    for mutant in mutants:
        wings.setdefault(mutant.wing, {}).update(dict.fromkeys(mutant.tests))
    with copies(root, jobs) as free, ThreadPoolExecutor(jobs) as pool:

        def timed(work: Callable[[Path], object]) -> tuple[object, str]:
            copy, begin = free.get(), time.monotonic()
            try:
                return work(copy), f"{time.monotonic() - begin:5.1f} s"
            finally:
                free.put(copy)

        def unchanged(wing: str) -> bool:
            tests = tuple(wings[wing])
            (result, output), took = timed(lambda copy: run_tests(copy, tests, 10 * limit))
            say(f"{took}  unchanged  {wing}: {len(tests)} test files or tests {result}")
            if result != "passed":
                say(output)
            return result == "passed"

        def mutated(mutant: Mutant) -> bool:
            fate, took = timed(lambda copy: try_mutant(copy, mutant, limit))
            say(f"{took}  {fate}  {mutant}")
            return fate != "SURVIVED"

        if not all(list(pool.map(unchanged, wings))):
            say("Tests fail without any mutant; mend them first.")
            return False
        killed = list(pool.map(mutated, mutants))
    say(f"{sum(killed)} of {len(mutants)} mutants killed")
    for mutant in (mutant for mutant, dead in zip(mutants, killed, strict=True) if not dead):
        say(
            f"survived: {mutant}\n  {mutant.old!r}\n  -> {mutant.new!r}\n  {' '.join(mutant.tests)}"
        )
    return all(killed)


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("only", nargs="*", metavar="WING|FILE", help="default: all lists")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="at a time (default 2)")
    parser.add_argument(
        "--limit", type=float, default=120, metavar="SECONDS", help="for one mutant (default 120)"
    )
    parser.add_argument("--list", action="store_true", help="name the mutants and run nothing")
    given = parser.parse_args(arguments)
    try:
        mutants = read_mutants(root, given.only)
    except ValueError as error:
        parser.error(str(error))
    if given.list:
        print(*mutants, sep="\n")
        return 0
    if wrong := faults_of_lists(root, mutants):
        print(*wrong, sep="\n", file=sys.stderr)
        return 1
    whole = try_all(root, mutants, given.jobs, given.limit, lambda text: print(text, flush=True))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
