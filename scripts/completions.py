"""The store of completions: what is kept, who asks for it, and what could go.

`list` shows a line a setting (a model as it was served and sampled): how many completions, by
which versions they were made, which experiments' tables hold them, how many no table holds.
`prune` shows the settings that no table of samples names. Add --yes to remove them. A run that was
interrupted before its first table names nothing yet: what it finished is shown as well.
"""

import argparse
import sys
from pathlib import Path

from lowrank.errors import run

EXAMPLE = """example:
  python scripts/completions.py list
  python scripts/completions.py prune --yes
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("do", choices=("list", "prune"), metavar="list|prune", help="what to do")
    parser.add_argument(
        "--results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder of the experiments' results (default results)",
    )
    parser.add_argument(
        "--store", type=Path, metavar="DIR", help="the store (default RESULTS/completions)"
    )
    parser.add_argument("--yes", action="store_true", help="with prune: remove them")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    from lowrank.plan.layout import completions_of
    from lowrank.sampling.keeping import prune, settings

    found = settings(given.store or completions_of(given.results), given.results)
    if given.do == "prune":
        found = [setting for setting in found if not setting.asked_by]
    for setting in found:
        asked = ", ".join(setting.asked_by) or "no table"
        if setting.asked_by and setting.unasked:
            asked += f", but for {setting.unasked} of them"
        print(
            f"{setting.folder.name}: {setting.completions} completions, {setting.tokens} tokens,"
            f" {setting.size / 1e6:.1f} MB; {'; '.join(setting.versions) or 'nothing made'};"
            f" asked for by {asked}"
        )
    if given.do == "prune" and given.yes:
        gone = prune(found)
        print(f"removed: {len(gone)} of {len(found)}")
    elif given.do == "prune" and found:
        print("nothing was removed; add --yes to remove these")


if __name__ == "__main__":
    sys.exit(run(main))
