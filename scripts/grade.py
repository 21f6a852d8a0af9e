"""Grade completions: the final answer of each, and whether it is right.

The samples (Parquet or JSONL: problem_id, sample, completion, anything else) are searched for the
last complete \\boxed{}, \\fbox{}, \\framebox{} or <answer></answer>; what it holds is compared with
the problem's answer. The grades hold one row a sample: problem_id, sample, answer (the voting
class: equal answers have equal text, null if there is none), correct, extracted (as written),
unjudged (why an answer could not be judged, else null), overlooked (no answer, though the right
one stands in the text), and the other columns of the samples (one that is named like one of these
as samples_<name>).
Answers that cannot be judged within the limits are wrong, counted, and named on stderr. A right
answer in the problems that cannot be read stops the program before anything is graded.
"""

import argparse
import os
import sys

from lowrank.errors import run

EXAMPLE = """example:
  python scripts/grade.py --samples r16.parquet --problems aime_2024.parquet \\
      --answer-type integer --reasoning-end "</think>" --output grades/r16.parquet
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLE, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", nargs="+", required=True, help="tables of completions, shards")
    parser.add_argument("--problems", required=True, help="table with problem_id and answer")
    parser.add_argument("--output", required=True, help="table of grades to write (.parquet, .csv)")
    parser.add_argument(
        "--answer-type",
        choices=["any", "integer"],
        default="any",
        help="integer: only integers are answers, anything else is none (default: any)",
    )
    parser.add_argument(
        "--reasoning-end",
        metavar="TEXT",
        help="search only after this text; a completion without it has no answer "
        "(default: search everywhere)",
    )
    parser.add_argument(
        "--rule",
        choices=["last", "post"],
        default="last",
        help="last: the last complete box or tag, braces balanced; post: the non-greedy expression "
        "of the post being reproduced (default: last)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=len(os.sched_getaffinity(0)),
        help="processes that judge answers; grades do not depend on it (default: all cores)",
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        default=3.0,
        metavar="S",
        help="seconds of processor time an answer may take to judge (default: 3)",
    )
    parser.add_argument(
        "--memory-limit",
        type=int,
        default=1024,
        metavar="MIB",
        help="memory a judging process may take (default: 1024)",
    )
    return parser.parse_args()


def main() -> None:
    options = arguments()
    from lowrank.claims import check_output
    from lowrank.grading.grade import grade_files

    check_output(options.output, [*options.samples, options.problems])
    grade_files(
        options.samples,
        options.problems,
        options.output,
        answer_type=options.answer_type,
        reasoning_end=options.reasoning_end,
        rule=options.rule,
        workers=max(1, options.workers),
        time_limit=options.time_limit,
        memory_limit=options.memory_limit * 2**20,
    )


if __name__ == "__main__":
    sys.exit(run(main))
