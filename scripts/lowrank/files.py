"""Files that are written whole or not at all, and tables in the formats the workflow speaks."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from numbers import Integral, Number, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.errors import InputError

if TYPE_CHECKING:
    import pandas

# In a folder that a program of ours fills (see lowrank.claims): what was written there.
MARKER = ".lowrank.json"
MARKER_FORMAT = "lowrank-written-1"
ROW_GROUP = 10_000  # rows of a growing table that are written together


@contextmanager
def whole_file(path: str | Path, digest: Callable[[], str] | None = None) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place when the block ends without an error.

    The bytes are flushed to the disk before the rename, so a reader (or a crash) sees the old
    file or the new one, never a part of it. What lay there is replaced, not written into: a link
    goes, and what it leads to stays as it is. In a folder with a MARKER the file is noted first.
    digest: gives the content's SHA-256 at the end, where the writer knows it already.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix is kept, for writers that choose their format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        if not (path.parent / MARKER).is_file():
            os.replace(temporary, path)
            return
        content = digest() if digest else sha256(temporary)
        note_written(path.parent, path.name, content, done=False)
        os.replace(temporary, path)
        note_written(path.parent, path.name, content)
    except OSError as error:
        error.filename = error.filename or str(path)  # libraries leave it out
        raise
    finally:
        temporary.unlink(missing_ok=True)


def read_written(folder: Path) -> dict[str, list[str]]:
    """By name, the contents (SHA-256) a file of ours in a folder can have; {} without a MARKER.

    Two where a writer was stopped between its note and the rename.
    """
    try:
        content = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    if not isinstance(content, dict) or content.get("format") != MARKER_FORMAT:
        return {}
    # Names that lead out of the folder were not written by us.
    plain = [
        name for name in content["files"] if Path(name).name == name and name not in ("", "..")
    ]
    return {name: content["files"][name] for name in plain}


def note_written(folder: Path, name: str, digest: str, done: bool = True) -> None:
    """Note in a folder's MARKER that a file has this content; not `done`: or still the last one."""
    files = read_written(folder)
    before = [] if done else [found for found in files.get(name, [])[-1:] if found != digest]
    write_marker(folder, files | {name: [*before, digest]})


def write_marker(folder: Path, files: dict[str, list[str]]) -> None:
    """Write a folder's MARKER whole."""
    temporary = folder / f"{MARKER}.{os.getpid()}.tmp"
    content = {"format": MARKER_FORMAT, "files": dict(sorted(files.items()))}
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(temporary, folder / MARKER)


def write_json(path: str | Path, content: Any, foreign: bool = False) -> None:
    """Write JSON, indented, keys in the order given; NaN is refused, as JSON has none.

    foreign: keep NaN and Infinity, for a reader in Python; configurations of some models have them.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=foreign)
    with whole_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def plain_json(content: Any) -> Any:
    """Content as JSON to the letter has it: NaN and Infinity become text."""
    return json.loads(json.dumps(content), parse_constant=str)


def read_json(path: str | Path) -> Any:
    """Read a JSON file; InputError names the file when it is missing or malformed."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from None


def write_table(path: str | Path, table: "pandas.DataFrame") -> None:
    """Write a table as Parquet or CSV, by the suffix; equal tables give equal bytes."""
    suffix = Path(path).suffix
    with whole_file(path) as temporary:
        if suffix == ".parquet":
            table.to_parquet(temporary, index=False, compression="zstd", write_page_checksum=True)
        elif suffix == ".csv":
            table.to_csv(temporary, index=False, lineterminator="\n")
        else:
            raise InputError(f"{path}: tables are written as .parquet or .csv, not {suffix!r}")


@contextmanager
def growing_table(path: str | Path) -> Iterator[Callable[["pandas.DataFrame"], None]]:
    """A function that appends rows to a Parquet table, which appears when the block ends.

    Every ROW_GROUP rows go to the disk as a row group, so that memory does not grow with the
    table. Columns are those of the first rows; equal calls give equal bytes.
    """
    import pandas
    import pyarrow
    import pyarrow.parquet

    waiting: list[pandas.DataFrame] = []
    writer = None
    with whole_file(path) as temporary, ExitStack() as closing:

        def write() -> None:
            nonlocal writer
            rows = pandas.concat(waiting, ignore_index=True)
            group = pyarrow.Table.from_pandas(rows, preserve_index=False)
            if writer is None:
                writer = pyarrow.parquet.ParquetWriter(
                    temporary, group.schema, compression="zstd", write_page_checksum=True
                )
                closing.enter_context(writer)
            writer.write_table(group)
            waiting.clear()

        def append(rows: pandas.DataFrame) -> None:
            waiting.append(rows)
            if sum(map(len, waiting)) >= ROW_GROUP:
                write()

        yield append
        if waiting or writer is None:
            write()


SUFFIXES = (".parquet", ".csv", ".json", ".jsonl")
PARQUET = b"PAR1"  # begins every Parquet file
# Columns that are text whatever they look like: 025 is not 25, NA is an answer.
TEXT = ("problem_id", "id", "problem", "completion", "answer", "extracted", "unjudged")


def read_table(path: str | Path, text: Sequence[str] = ()) -> "pandas.DataFrame":
    """Read a Parquet, CSV, JSON (a list of records) or JSONL table; InputError if it is none.

    Only an empty cell of a CSV is missing. `TEXT` columns (and those named) stay text there; in
    the other formats they stay as stored, integers beside a missing value included. A byte order
    mark is no part of a table. Parquet is known by its content, and JSON from JSONL, too; otherwise
    the suffix counts.
    """
    import pandas

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    text = (*TEXT, *text)
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: tables are .parquet, .csv, .json or .jsonl, not {suffix!r}")
    try:
        with path.open("rb") as start:
            parquet = start.read(len(PARQUET)) == PARQUET
        if parquet or suffix == ".parquet":
            return _read_parquet(path, text)
        if suffix == ".csv":
            return pandas.read_csv(
                path,
                dtype=dict.fromkeys(text, str),
                keep_default_na=False,
                na_values=[""],
                encoding="utf-8-sig",
            )
        # As objects: beside a missing value an integer would become a float.
        table = pandas.DataFrame(_records(path), dtype=object)
        kept = {name: table[name] for name in text if name in table}
        return table.infer_objects().assign(**kept)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable {suffix} table ({error})") from None


def _records(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON or JSONL file; ValueError if they are none.

    Through json, not pandas.read_json, which turns "025" into 25 and guesses dates.
    """
    rows: list[Any]
    content = path.read_text(encoding="utf-8-sig")
    if content.lstrip().startswith("["):
        rows = json.loads(content)
    else:
        # Not splitlines, which also breaks at the rarer line ends that a text may hold.
        rows = [json.loads(line) for line in content.split("\n") if line.strip()]
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("it holds no records, one {..} a row")
    return rows


def _read_parquet(path: Path, text: Sequence[str]) -> "pandas.DataFrame":
    import pyarrow
    import pyarrow.parquet

    try:
        stored = pyarrow.parquet.read_table(path, page_checksum_verification=True)
        table = stored.to_pandas()
    except Exception as error:  # of what pyarrow makes of a damaged file anything can come
        raise ValueError(str(error) or type(error).__name__) from None
    for name in text:
        if name in stored.column_names and pyarrow.types.is_integer(stored.schema.field(name).type):
            table[name] = stored.column(name).to_pandas(integer_object_nulls=True)
    return table


def cell_text(value: object) -> str | None:
    """A cell as text: numbers without a trailing .0, text as it is, a list of one value as that
    value; None for an empty cell. ValueError for anything else, saying what it is."""
    if hasattr(value, "tolist") and getattr(value, "shape", None):  # a numpy array
        value = value.tolist()
    if isinstance(value, list | tuple):
        if len(value) > 1:
            raise ValueError(f"a list of {len(value)} values, {value!s:.60}; one is needed")
        return cell_text(value[0]) if value else None
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if not isinstance(value, str | Number):
        raise ValueError(f"a {type(value).__name__}, {value!s:.60}; text or a number is needed")
    if not isinstance(value, str) and value != value:  # nan
        return None
    if isinstance(value, Real) and not isinstance(value, Integral) and value % 1 == 0:
        return str(math.trunc(value))
    return str(value) or None


def sha256(path: str | Path) -> str:
    """Hexadecimal SHA-256 of a file's content."""
    with Path(path).open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
