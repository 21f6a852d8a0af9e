"""Read what another evaluation tool sampled and judged as a table of grades.

Takes the per-completion files of lighteval (details_*.parquet, from --save-details),
lm-evaluation-harness (samples_*.jsonl, from --log_samples) and inspect_ai (logs, .eval or .json).
Writes problem_id, sample, answer, correct, extracted, completion, a row a completion; compare.py
compares such tables as any others. `correct` is what the tool says, and the tool's own accuracy is
the mean of it (over samples, then problems). Several files are one pool: each adds samples to the
problems of those before it.

Votes count equal texts. To have 0.5 and 1/2 as one vote, or the answers of all tools judged by one
rule, grade the completions again: grade.py --samples <output> --problems <problems>.
"""

import argparse
import os
import sys

from lowrank.errors import run

EXAMPLE = """examples:
  python scripts/import_grades.py --format lighteval --input details_aime24_2026-01-01.parquet \\
      --output grades/theirs.parquet --problems theirs-problems.parquet
  python scripts/import_grades.py --format lm-eval --filter flexible-extract \\
      --input samples_gsm8k_2026-01-01.jsonl --output grades/theirs.parquet
  python scripts/import_grades.py --format inspect --metric match \\
      --input 2026-01-01_aime2024.eval --output grades/theirs.parquet
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--format", required=True, choices=["lighteval", "lm-eval", "inspect"])
    parser.add_argument(
        "--input", nargs="+", required=True, metavar="FILE", help="files of one task"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help=".parquet or .csv")
    parser.add_argument(
        "--problems",
        metavar="FILE",
        help="also write problem_id, problem and answer (.parquet, .csv)",
    )
    parser.add_argument(
        "--metric", metavar="NAME", help="the score that says what is right (inspect: the scorer)"
    )
    parser.add_argument(
        "--filter", metavar="NAME", help="lm-eval: the filter whose answers to read"
    )
    parser.add_argument(
        "--ungraded",
        action="store_true",
        help="write problem_id, sample and completion of all that was sampled, for grade.py",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes that judge, where the tool keeps one score for several completions",
    )
    options = parser.parse_args()
    from lowrank.grading.importing import import_files

    import_files(
        options.input,
        options.format,
        options.output,
        problems=options.problems,
        metric=options.metric,
        filter_name=options.filter,
        ungraded=options.ungraded,
        workers=max(1, options.workers),
    )


if __name__ == "__main__":
    sys.exit(run(main))
