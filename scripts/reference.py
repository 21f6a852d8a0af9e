"""Write docs/configuration.md: every key of the configuration, from workflow/schemas."""

import argparse
import sys
from pathlib import Path

from lowrank.errors import run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example:\n  python scripts/reference.py",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", metavar="FILE", type=Path, default="docs/configuration.md")
    args = parser.parse_args()
    from lowrank.files import whole_file
    from lowrank.plan.reference import reference

    with whole_file(args.output) as temporary:
        temporary.write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run(main))
