"""Write down an experiment: all that its results depend on, for the report and the record."""

import argparse
import json
import sys
from pathlib import Path

from lowrank.errors import InputError, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

The workflow resolves config.yaml and experiments/<name>.yaml and gives the result as JSON on
standard input (for a command line it can be too long); report.py reads the file as its
--experiment. Files of earlier questions (asked-*.json) in the same folder are removed.""",
        epilog="""example:
  python scripts/describe.py --output results/mini/asked-0123456789abcdef.json < experiment.json""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", required=True, metavar="FILE", type=Path, help=".json")
    args = parser.parse_args()
    from lowrank.files import write_json

    try:
        content = json.load(sys.stdin.buffer)
    except ValueError as error:
        raise InputError(f"standard input is no JSON ({error}); the workflow writes it") from None
    write_json(args.output, content)
    for earlier in args.output.parent.glob("asked-*.json"):
        if earlier.name != args.output.name:
            earlier.unlink()


if __name__ == "__main__":
    sys.exit(run(main))
