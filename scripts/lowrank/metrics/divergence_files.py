"""Tables of tokens to the tables of a benchmark's divergences, from files to files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lowrank.claims import claim
from lowrank.errors import InputError
from lowrank.files import read_table, write_table
from lowrank.metrics.divergence_contrasts import Ladders, contrasts, enough, rank_within
from lowrank.metrics.divergences import figures, read_divergences
from lowrank.metrics.evaluation import write_numbers
from lowrank.pools import listed

WRITTEN = ("metrics.csv", "contrasts.csv", "ranks.csv")


def write_divergences(
    tables: Mapping[str, Path],
    base: str,
    ladders: Ladders,
    pairs: Sequence[tuple[str, str]],
    benchmark: str,
    output: Path,
    seed: int = 0,
    equal: Sequence[tuple[str, str]] = (),
    own: Sequence[tuple[str, str, str]] = (),
    sizes: Path | None = None,
) -> None:
    """Write the WRITTEN tables of a benchmark into a folder.

    equal: descriptions and the variants whose bytes they have. own: descriptions with bytes of
    their own, their kind and the ladder that they are held against, by the bytes in `sizes`.
    InputError for a model of a ladder or a pair that has no table.
    """
    equal = list(equal)
    if own:
        if sizes is None:
            raise InputError("--own without --sizes; give the table of bytes")
        taken = read_table(sizes)
        for name, kind, ladder in own:
            beside = rank_within(taken, kind, ladders[ladder])
            equal += [(name, beside)] if beside else []
    asked = {base, *(name for ladder in ladders.values() for name in ladder)}
    asked |= {name for pair in (*pairs, *equal) for name in pair}
    if missing := sorted(asked - set(tables)):
        raise InputError(f"--tables has none of {listed(missing)}; give every model's")
    claim(output, tables.values(), WRITTEN)
    found = read_divergences(tables)
    write_numbers(output / WRITTEN[0], figures(found, base, benchmark, seed))
    write_numbers(output / WRITTEN[1], contrasts(found, ladders, pairs, benchmark, seed, equal))
    write_table(output / WRITTEN[2], enough(found, ladders, base, benchmark, seed))
