"""Grades to metrics: an estimate a row, with what it was computed from and how far to trust it."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lowrank.errors import InputError
from lowrank.metrics.intervals import (
    count_variance,
    majority_variance,
    mean_variance,
    problem_spacings,
    problem_weights,
    problems_interval,
    problems_method,
    traces_interval,
)
from lowrank.metrics.majority import Floats, drawn_majority, g_pass_at_k, majority_curve, pass_at_k
from lowrank.pools import Pool, check_ks, keyed, pools

if TYPE_CHECKING:
    from pandas import DataFrame

THRESHOLDS = (0.5, 0.75, 1.0)  # tau of G-Pass@k that are reported
# What metrics/<benchmark>/<model>.csv holds: column -> what it is, as docs/tables.md has it.
COLUMNS = {
    "model": "name",
    "benchmark": "name",
    "metric": "see below",
    "k": "samples that the estimate is about; 1 for plain shares and means",
    "estimator": "`exact`: the average over every k-subset of the pool; `protocol`: the post's, k"
    " samples drawn without replacement, `--repeats` times, averaged",
    "value": "mean over the problems",
    "traces_low": "95 % interval, lower end: these problems, sampled again",
    "traces_high": "its upper end",
    "problems_low": "95 % interval, lower end: problems like these (BCa over problems; next to 0 or"
    " 1 Gaffke's bound)",
    "problems_high": "its upper end",
    "problems_method": "`bca`, or `gaffke` where fewer than two problems' worth of answers is wrong"
    " (or right); empty where there is no interval",
    "repeats_sd": "standard deviation of the protocol's repeats: it measures the random draws, and"
    " is no confidence interval",
    "repeats_low": "lowest repeat",
    "repeats_high": "highest repeat",
    "n_problems": "problems",
    "n_samples": "samples a problem, N",
}
# The metrics -> what they are, in the order of the rows.
METRICS = {
    "mean": "accuracy",
    "pass": "pass@k: at least one of k is right",
    "maj": "Maj@k: the majority of k votes is right, ties split evenly; at k = N cons@N, the vote"
    " of the whole pool",
    **{f"gpass-{tau:g}": "G-Pass@k: at least that share of k is right" for tau in THRESHOLDS},
    "mgpass": "its average over shares from one half",
    "no_answer": "share without an answer",
    "unjudged": "share whose answer could not be judged",
    "truncated": "share cut off (`finish_reason` is `length`)",
    "completion_tokens": "mean length",
}


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A random generator for what `names` name: the same wherever and in whatever order it runs."""
    digest = hashlib.sha256("\0".join(map(str, names)).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "big")])


@dataclass(frozen=True)
class Estimate:
    """A metric at one k: its value and variance (traces resampled) on every problem.

    values, variances: [problems], in the order of the pools. share: it lies in 0..1.
    """

    metric: str
    k: int
    values: Floats
    variances: Floats
    share: bool = True


def estimates(
    whole: Sequence[Pool], ks: Sequence[int], seed: int = 0, metrics: Sequence[str] = ()
) -> list[Estimate]:
    """mean, pass@k, Maj@k (also of the whole pool, cons@N), G-Pass@k and no_answer, exactly.

    metrics: only these ("mean", "pass", "maj", "gpass", "no_answer"); all if empty.
    """
    size = len(whole[0].classes)
    right = np.array([pool.correct.sum() for pool in whole])
    counts = np.arange(size + 1)

    def counted(metric: str, k: int, table: Floats) -> Estimate:
        return Estimate(metric, k, table[right], count_variance(right, size, table))

    made = []
    if not metrics or "mean" in metrics:
        variance = mean_variance(np.array([pool.correct for pool in whole]))
        made.append(Estimate("mean", 1, right / size, variance))
    if not metrics or "pass" in metrics:
        made += [counted("pass", k, pass_at_k(counts, size, [k])[0]) for k in ks]
    if not metrics or "maj" in metrics:
        with_pool = sorted({*ks, size})
        curves = np.array([majority_curve(p.votes, p.right, with_pool, p.silent) for p in whole])
        spread = np.array(
            [
                majority_variance(
                    p.votes, p.right, p.silent, with_pool, generator(seed, "maj", p.problem_id)
                )
                for p in whole
            ]
        )
        made += [Estimate("maj", k, curves[:, i], spread[:, i]) for i, k in enumerate(with_pool)]
    if not metrics or "gpass" in metrics:
        for k in ks:
            tails = np.array([g_pass_at_k(int(c), size, k) for c in counts])
            for tau in THRESHOLDS:
                made.append(counted(f"gpass-{tau:g}", k, tails[:, math.ceil(tau * k)]))
            if k > 1:
                integral = 2 / k * tails[:, math.ceil(k / 2) + 1 :].sum(axis=1)
                made.append(counted("mgpass", k, integral))
    if not metrics or "no_answer" in metrics:
        silent = np.array([pool.classes < 0 for pool in whole])
        made.append(Estimate("no_answer", 1, silent.mean(axis=1), mean_variance(silent)))
    return made


def column_estimates(grades: "DataFrame") -> list[Estimate]:
    """Shares and means of the columns that grades may carry: unjudged, truncated (finish_reason
    is "length"), completion_tokens. InputError where the last is no number."""
    import pandas

    table = keyed(grades, "the grades")
    table = table.sort_values(["problem_id", "sample"], kind="stable")
    columns = {}
    if "unjudged" in table:
        columns["unjudged"] = table["unjudged"].notna()
    if "finish_reason" in table:
        columns["truncated"] = table["finish_reason"] == "length"
    if "completion_tokens" in table:
        columns["completion_tokens"] = pandas.to_numeric(table["completion_tokens"], "coerce")
        wrong = columns["completion_tokens"].isna() & table["completion_tokens"].notna()
        if wrong.any():
            raise InputError(
                "the grades: `completion_tokens` holds"
                f" {table['completion_tokens'][wrong].iloc[0]!r}; a number of tokens is needed"
            )
    made = []
    for metric, column in columns.items():
        values = column.to_numpy(dtype=float).reshape(table["problem_id"].nunique(), -1)
        share = metric != "completion_tokens"
        made.append(Estimate(metric, 1, values.mean(axis=1), mean_variance(values), share))
    return made


def model_metrics(
    grades: "DataFrame",
    model: str,
    benchmark: str,
    ks: Sequence[int],
    repeats: int = 16,
    seed: int = 0,
) -> "DataFrame":
    """All metrics of one model on one benchmark, one row each, with the columns `COLUMNS`."""
    import pandas

    whole = pools(grades, f"the grades of {model}")
    size = len(whole[0].classes)
    ks = sorted(set(ks))
    check_ks(ks, size, model)
    weights = problem_weights(len(whole), generator(seed, benchmark, "problems"))
    spacings = problem_spacings(len(whole), generator(seed, benchmark, "spacings"))
    exact = estimates(whole, ks, seed) + column_estimates(grades)
    rows = [_exact_row(estimate, weights, spacings) for estimate in exact]
    rows += [_protocol_row(k, protocol(whole, k, repeats, (seed, model, benchmark))) for k in ks]
    table = pandas.DataFrame(rows).assign(
        model=model, benchmark=benchmark, n_problems=len(whole), n_samples=size
    )
    return table.reindex(columns=list(COLUMNS))


def _exact_row(estimate: Estimate, weights: Floats, spacings: Floats) -> dict[str, Any]:
    """A row of an exact estimate; weights, spacings: of the resampled problems."""
    value = math.fsum(estimate.values) / len(estimate.values)
    traces = traces_interval(value, estimate.variances, share=estimate.share)
    bounded = spacings if estimate.share else None
    problems = problems_interval(estimate.values, weights, bounded)
    return {
        "metric": estimate.metric,
        "k": estimate.k,
        "estimator": "exact",
        "value": value,
        "traces_low": traces[0],
        "traces_high": traces[1],
        "problems_low": problems[0],
        "problems_high": problems[1],
        "problems_method": problems_method(estimate.values, estimate.share),
    }


def _protocol_row(k: int, draws: Floats) -> dict[str, Any]:
    """A row of the post's protocol; draws: [repeats] what each gave."""
    return {
        "metric": "maj",
        "k": k,
        "estimator": "protocol",
        "value": math.fsum(draws) / len(draws),
        "repeats_sd": float(draws.std(ddof=1)) if len(draws) > 1 else float("nan"),
        "repeats_low": float(draws.min()),
        "repeats_high": float(draws.max()),
    }


def protocol(whole: Sequence[Pool], k: int, repeats: int, names: tuple[int, str, str]) -> Floats:
    """[repeats] the post's Maj@k: in each repeat k samples of every problem are drawn without
    replacement and vote; the mean over problems. names: seed and names to draw by."""
    drawn: Floats = np.mean(
        [
            drawn_majority(
                pool.classes,
                pool.right,
                k,
                repeats,
                generator(names[0], *names[1:], "protocol", k, pool.problem_id),
            )
            for pool in whole
        ],
        axis=0,
    )
    return drawn
