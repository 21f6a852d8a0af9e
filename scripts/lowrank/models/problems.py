"""Problem sets in one form: problem_id, problem, answer, all text."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.claims import check_output
from lowrank.errors import InputError
from lowrank.files import cell_text as text
from lowrank.files import read_table, write_table
from lowrank.places import locate

if TYPE_CHECKING:
    import pandas

ID_COLUMNS = ("problem_id", "id")  # taken where the source has one and none is named


def uniform(
    source: "pandas.DataFrame",
    where: str,
    problem_column: str = "problem",
    answer_column: str = "answer",
    id_column: str | None = None,
    problems: int | None = None,
) -> "pandas.DataFrame":
    """A source's table as problem_id, problem, answer (text), in the source's order.

    Without an id column of its own the row number (0000, 0001, ...) is the id. Answers stay as the
    source gives them ("025" is not turned into 25), but a number 142.0 is written 142.
    problems: how many there must be, where that is known.
    Raises InputError for missing columns, empty cells, repeated ids, a table without rows or with
    another number of them.
    """
    import pandas

    for column in filter(None, (problem_column, answer_column, id_column)):
        if column not in source.columns:
            raise InputError(
                f"{where}: has no column {column!r}; its columns are {list(source.columns)}"
            )
    if source.empty:
        raise InputError(f"{where}: has no rows")
    if problems is not None and len(source) != problems:
        raise InputError(
            f"{where}: has {len(source)} problems, {problems} are expected; the file or the"
            " revision is another one than was meant"
        )
    id_column = id_column or next((name for name in ID_COLUMNS if name in source.columns), None)
    if id_column:
        rows = [f"in row {row}" for row in range(len(source))]
        ids = _texts(source[id_column], rows, where)
    else:
        ids = [f"{row:04d}" for row in range(len(source))]
    table = pandas.DataFrame(
        {
            "problem_id": ids,
            "problem": _texts(source[problem_column], ids, where),
            "answer": _texts(source[answer_column], ids, where),
        },
        dtype=object,
    )
    for column in table.columns:
        empty = [row for row, value in enumerate(table[column]) if not value or not value.strip()]
        if empty:
            raise InputError(f"{where}: row {empty[0]} has no {column} ({len(empty)} such rows)")
    repeated = table["problem_id"][table["problem_id"].duplicated()].unique()
    if len(repeated):
        raise InputError(
            f"{where}: the ids {', '.join(repeated[:5])} occur more than once in {id_column!r}; "
            "name another id column"
        )
    return table


def _texts(cells: "pandas.Series", ids: Sequence[str | None], where: str) -> list[str | None]:
    found = []
    for cell, name in zip(cells.tolist(), ids, strict=True):
        try:
            found.append(text(cell))
        except ValueError as error:
            raise InputError(f"{where}: {cells.name} of problem {name} is {error}") from None
    return found


def write_benchmark(
    output: str | Path,
    path: str | Path | None = None,
    repo: str | None = None,
    revision: str | None = None,
    file: str | None = None,
    problems: int | None = None,
    problem_column: str = "problem",
    answer_column: str = "answer",
    id_column: str | None = None,
) -> None:
    """Write a problem set's uniform table from a local file, or from a dataset at a commit."""
    columns = (problem_column, answer_column, id_column)
    named = [column for column in columns if column]
    if path is not None:
        check_output(output, [locate(path)])
        source, where = read_table(locate(path), named), str(path)
    elif repo and revision and file:
        from lowrank.models.hub import fetch_file

        with tempfile.TemporaryDirectory() as folder:
            source = read_table(fetch_file(repo, revision, file, Path(folder)), named)
        where = f"{repo}: {file}"
    else:
        raise ValueError("neither a table's path nor a file of a repository at a commit is given")
    write_table(output, uniform(source, where, *columns, problems))
