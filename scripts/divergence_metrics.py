"""How far each model is from the derivative, which ranks differ, and what rank is enough.

From the tables of divergence.py, all of one benchmark and one reference, three tables are made in
the folder --output (their columns: docs/tables.md):

  metrics.csv    one figure a row: mean divergence, share of the way recovered, share of equal
                 likeliest tokens, each with an interval for problems like these; quantiles; the
                 mean along the completion
  contrasts.csv  neighbouring ranks of a ladder, the pairs, and other descriptions beside the rank
                 whose bytes they have, compared by problem (sign-flip test, adjusted for their
                 number by Holm)
  ranks.csv      the smallest rank of a ladder that recovers 90, 95 and 99 % of the way
"""

import argparse
import sys
from pathlib import Path

from lowrank.errors import InputError, run

EXAMPLE = """example:
  python scripts/divergence_metrics.py --benchmark mini30 --base sft \\
      --tables sft=sft.parquet r16-copy=r16-copy.parquet r64-copy=r64-copy.parquet \\
      --ladder copy r16-copy=16 r64-copy=64 --output divergence
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--benchmark", required=True, metavar="NAME", help="name written into the tables")
    add("--tables", nargs="+", required=True, metavar="NAME=FILE", help="of every model")
    add("--base", required=True, metavar="NAME", help="the model from which the way is measured")
    add(
        "--ladder",
        nargs="+",
        action="append",
        default=[],
        metavar="ARG",
        help="NAME VARIANT=RANK..: variants that differ in rank alone",
    )
    add(
        "--pair",
        nargs=2,
        action="append",
        default=[],
        metavar=("VARIANT", "OTHER"),
        help="two variants to compare; of these --ladder ones that differ in what is copied",
    )
    add(
        "--equal-bytes",
        nargs=2,
        action="append",
        default=[],
        metavar=("VARIANT", "RANK"),
        help="another description, and the variant of the rank whose bytes it has",
    )
    add(
        "--own-bytes",
        nargs=3,
        action="append",
        default=[],
        metavar=("VARIANT", "KIND", "LADDER"),
        help="another description with bytes of its own: compared with the highest rank of the"
        " ladder that takes no more, by --sizes",
    )
    add("--sizes", type=Path, metavar="FILE", help="descriptions.parquet of the delta")
    add("--seed", type=int, default=0, metavar="N", help="of what is resampled (default 0)")
    add("--output", required=True, type=Path, metavar="DIR", help="for the three tables")
    return parser.parse_args()


def named(entries: list[str], flag: str) -> dict[str, str]:
    """NAME=VALUE pairs; InputError for anything else, and for a name given twice."""
    pairs = [entry.rpartition("=")[::2] for entry in entries]
    for entry, (name, value) in zip(entries, pairs, strict=True):
        if not name or not value:
            raise InputError(f"{flag} {entry}: expected NAME=VALUE")
    if len(dict(pairs)) < len(pairs):
        raise InputError(f"{flag}: a name is given twice")
    return dict(pairs)


def main() -> None:
    given = arguments()
    tables = {name: Path(path) for name, path in named(given.tables, "--tables").items()}
    ladders = {}
    for name, *variants in given.ladder:
        ranks = named(variants, "--ladder")
        if not all(rank.isdecimal() for rank in ranks.values()):
            raise InputError(f"--ladder {name}: expected VARIANT=RANK, a whole number")
        ladders[name] = {variant: int(rank) for variant, rank in ranks.items()}
    pairs = [tuple(pair) for pair in given.pair]
    equal = [tuple(each) for each in given.equal_bytes]
    own = [tuple(each) for each in given.own_bytes]
    if own and given.sizes is None:
        raise InputError("--own-bytes needs --sizes")
    for name, _, ladder in own:
        if ladder not in ladders:
            raise InputError(f"--own-bytes {name}: there is no --ladder {ladder}")
    from lowrank.metrics.divergence_files import write_divergences

    write_divergences(
        tables, given.base, ladders, pairs, given.benchmark, given.output, given.seed,
        equal=equal, own=own, sizes=given.sizes,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(run(main))
