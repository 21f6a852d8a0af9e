"""Fetch a problem set and write it as one uniform table: problem_id, problem, answer."""

import argparse
import sys

from lowrank.errors import InputError, at_least_one, run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__
        + """

From a dataset file on a hub at a pinned commit, or a local Parquet, JSONL, JSON or CSV file.
All three columns are text; answers stay as the source gives them.""",
        epilog="""examples:
  python scripts/fetch_benchmark.py --repo HuggingFaceH4/aime_2024 \\
      --revision 2fe88a2f1091d5048c0f36abc874fb997b3dd99a \\
      --file data/train-00000-of-00001.parquet --output results/x/benchmarks/aime2024.parquet
  python scripts/fetch_benchmark.py --path problems.jsonl --problem-column prompt \\
      --output results/x/benchmarks/mine.parquet""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repo", metavar="OWNER/NAME", help="dataset repository on the hub")
    parser.add_argument("--revision", metavar="SHA", help="its commit, all 40 digits")
    parser.add_argument("--file", metavar="FILE", help="path of the table in the repository")
    parser.add_argument("--path", metavar="FILE", help="or a local table")
    parser.add_argument("--problem-column", default="problem", metavar="NAME")
    parser.add_argument("--answer-column", default="answer", metavar="NAME")
    parser.add_argument(
        "--id-column", metavar="NAME", help="default: problem_id or id if there, or the row number"
    )
    parser.add_argument(
        "--problems",
        type=at_least_one,
        metavar="N",
        help="how many it must hold, else it is refused",
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="a .parquet file")
    args = parser.parse_args()

    remote = (args.repo, args.revision, args.file)
    if bool(args.path) == any(remote) or (any(remote) and not all(remote)):
        raise InputError("either --repo, --revision and --file, or --path is needed")

    from lowrank.models.problems import write_benchmark

    write_benchmark(
        args.output,
        path=args.path,
        repo=args.repo,
        revision=args.revision,
        file=args.file,
        problem_column=args.problem_column,
        answer_column=args.answer_column,
        id_column=args.id_column,
        problems=args.problems,
    )


if __name__ == "__main__":
    sys.exit(run(main))
