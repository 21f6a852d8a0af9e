"""The report's sentences, made from the numbers: what was asked and found, how sure it is."""

import numpy as np
import pandas as pd

from lowrank.metrics.comparisons import UNANSWERED
from lowrank.plan.controls import in_order, kind_of, kinds_asked, other_weights
from lowrank.report import verdicts
from lowrank.report.cells import DASH, PLUS_MINUS, TIMES, fraction, joined, percent
from lowrank.report.deltas import energy_at, null_energy_at, ranks_of
from lowrank.report.evidence import Evidence
from lowrank.report.experts import by_type
from lowrank.report.results import measure
from lowrank.report.shares import factored, not_factored, others

MARGIN = 0.05  # config.yaml's default

SERVING = {
    "merged": "merged into the weights",
    "adapter": "kept apart as an adapter on a checkpoint that has everything else",
}


def warnings(found: Evidence) -> list[str]:
    """What sampling warned of, a sentence a table: shown before any answer."""
    return [
        f"{found.label(model)} on {benchmark_label(found, benchmark)}: {warning}."
        for (benchmark, model), records in found.provenance.items()
        for record in records
        for warning in record["warnings"]
        if found.accuracy or "were cut off" not in warning  # what is only read may well end early
    ]


def asked(found: Evidence) -> list[str]:
    """The question, what was kept, how it was read."""
    experiment = found.experiment
    base, derivative = found.label(experiment["base"]), found.label(experiment["derivative"])
    question = (
        f"How much of what training changed between {base} and {derivative} is low-rank, and does"
        " the model keep its reasoning when only that part is kept?"
    )
    return [question, f"{_made(found)} {_read(found)}"]


def ran(found: Evidence) -> str:
    """What was run, in a line."""
    records = [record["counts"] for shards in found.provenance.values() for record in shards]
    labels = [entry["label"] for entry in found.experiment["benchmarks"].values()]
    read = len(found.experiment["variants"]) - len(found.answering)
    completions = sum(counts["completions"] for counts in records)
    tokens = sum(counts["completion_tokens"] for counts in records)
    return (
        f"What was run: {len(found.sampled)} models wrote {completions:,} completions"
        f" ({tokens:,} tokens) to {joined(labels)}"
        + (f"; {read} more were only read on the derivative's text." if read else ".")
    )


def _made(found: Evidence) -> str:
    """How the variants were made, and which controls stand beside them."""
    experiment = found.experiment
    base, derivative = found.label(experiment["base"]), found.label(experiment["derivative"])
    ranks = joined([str(rank) for rank in ranks_of(found)])
    sources = " or ".join(
        other_weights(other).source.format(base=base, derivative=derivative)
        for other in in_order({variant["other"] for variant in found.lowrank.values()})
    )
    served_as = joined([SERVING[way] for way in experiment["serve_as"]])
    said = (
        f"{factored(found, experiment['delta'])} of {derivative} minus that of {base} was factored,"
        f" D = U S V, and cut to its top {ranks} directions. The cut difference was added back to"
        f" {base}, with biases from {derivative} and with {others(found)} {sources}. It was"
        f" {served_as}, and stored as {joined(experiment['serve_dtype'])}."
    )
    limits = kinds_asked(experiment["controls"])
    controls = [
        kind_of(kind).what + (f" (rank {joined(list(map(str, ranks)))})" if ranks else "")
        for kind, ranks in limits.items()
        if any(variant["kind"] == kind for variant in found.controls.values())
    ]
    return said + (f" Controls: {'; '.join(controls)}." if controls else "")


def _read(found: Evidence) -> str:
    """How the models were sampled, and what is reported of their answers."""
    experiment, sampling = found.experiment, found.experiment["sampling"]
    labels = [entry["label"] for entry in experiment["benchmarks"].values()]
    if not found.accuracy:
        return (
            f"{joined([found.label(name) for name in experiment['references']])} wrote"
            f" {experiment['samples']} completion{'s' * (experiment['samples'] > 1)} of at most"
            f" {sampling['max_tokens']:,} tokens to"
            f" every problem of {joined(labels)}, at temperature {sampling['temperature']:g} and"
            f" top-p {sampling['top_p']:g}. All models were read on such text. No answer was"
            " graded: this page says nothing about accuracy."
        )
    votes = joined([str(k) for k in experiment["maj_k"]])
    return (
        f"{_who(found)} answered every problem of {joined(labels)} {experiment['samples']} times at"
        f" temperature {sampling['temperature']:g} and top-p {sampling['top_p']:g}, computed in"
        f" {joined(found.computed_in)}. Reported are mean accuracy and majority votes of {votes}:"
        " exactly, over every subset of the pool, and by the post's protocol, the mean of"
        f" {experiment['repeats']} random draws."
    )


def _who(found: Evidence) -> str:
    """Who answered: each model, but for those that were only read."""
    read = [found.label(name) for name in found.lowrank if name not in found.answered]
    if not read:
        return "Each model"
    return f"Each model but {joined(read)}, which {'was' if len(read) == 1 else 'were'} only read,"


def changed(found: Evidence, frame: pd.DataFrame) -> list[str]:
    """How concentrated the deltas are, and which ranks were more than a matrix has."""
    experiment = found.experiment
    said = []
    for delta in experiment["deltas"]:
        lines = frame[frame["delta"] == delta]
        side = int(lines[["rows", "columns"]].min(axis=1).median())
        said.append(
            f"{found.delta_label(delta)}: of {len(lines)} matrices the median one changed by"
            f" {lines['relative_frobenius'].median():.2%} of its norm, with a stable rank of"
            f" {lines['stable_rank'].median():.1f} and 90% of the squared change within"
            f" {int(lines['rank_90'].median())} of {side} directions;"
            f" {int(lines['rank_above_noise'].median())} directions are stronger than noise and"
            f" hold {percent(lines['energy_above_noise'].median())} of the squared change (the"
            " noise level is estimated from the median singular value, and is at least the rounding"
            f" error). The largest singular value of all is {lines['sigma_1'].max():.3g}."
        )
        if "unchanged_bfloat16" in lines and lines["unchanged_bfloat16"].notna().any():
            said[-1] += (
                f" In the median matrix {percent(lines['unchanged'].median())} of the entries are"
                " equal in both models as stored, and after a cast of both to bfloat16"
                f" {percent(lines['unchanged_bfloat16'].median())}."
            )
    return [*not_factored(found), *said, *capped(found, frame)]


def capped(found: Evidence, frame: pd.DataFrame) -> list[str]:
    """Which ranks exceed a matrix's smaller side, in words; nothing where none does."""
    lines = frame[frame["delta"] == found.experiment["delta"]]
    side = lines[["rows", "columns"]].min(axis=1)
    said = []
    for rank in ranks_of(found):
        kept = lines["tensor"].map(
            {name: matrix["rank"] for name, matrix in found.adapters[rank]["matrices"].items()}
        )
        whole = side[kept == side]
        for short, these in lines.loc[whole.index].groupby(whole):
            modules = joined(list(dict.fromkeys(by_type(these)["module"])))
            count = f"all {len(lines)}" if len(these) == len(lines) else f"{len(these)}"
            if short < rank:
                how = f"is capped at {short} in {count} matrices ({modules}), which have no more"
            else:
                how = f"is all that {count} matrices ({modules}) have"
            said.append(f"Rank {rank} {how}: there the whole delta is kept.")
    return said


def served(found: Evidence) -> list[str]:
    """How much of the meant change the cast to the served dtype left."""
    dtypes = joined(found.experiment["serve_dtype"])
    return [
        f"A variant is stored as {dtypes}. Where an update is smaller than half a step of that"
        " format, the stored weight stays at the base's value and the update is lost. What was"
        " stored is therefore compared with what was meant, weight by weight: the relative error of"
        " (stored minus base) against the meant change, the share of changed entries that the cast"
        " left at the base's value, and the cosine between the two. The engine holds exactly the"
        " stored values, whatever data type it computes in."
    ]


def benchmark_label(found: Evidence, benchmark: str) -> str:
    """A benchmark as people call it, with its size."""
    samples = found.experiment["samples"]
    records = found.provenance[benchmark, found.experiment["base"]]
    problems = sum(record["counts"]["completions"] for record in records) // samples
    label = found.experiment["benchmarks"][benchmark].get("label", benchmark)
    return f"{label} · {problems} problems {TIMES} {samples} completions"


def results_note(found: Evidence, benchmark: str) -> str:
    """What the columns of the results table are, in short."""
    return (
        f"Avg Maj@k: k completions a problem drawn from the pool, majority vote, mean of"
        f" {found.experiment['repeats']} draws, as in the post. Maj@k: the expectation of that over"
        " every possible draw, ties split evenly, computed exactly. The intervals are for other"
        " problems of this kind (problems resampled); those for the same problems and other"
        " completions are in results.csv."
    )


def answer(found: Evidence, frames: dict[str, pd.DataFrame]) -> list[str]:
    """The answer in a sentence each: how low-rank, how accurate, how sure."""
    experiment, comparisons = found.experiment, frames["comparisons"]
    said = _concentration(found)
    if not found.accuracy:
        return said
    for benchmark in experiment["benchmarks"]:
        said.append(_accuracy(found, comparisons, benchmark))
        said.append(verdicts.sentence(found, comparisons, benchmark))
        said += verdicts.controls(found, comparisons, benchmark, ("other",))
    for pool in experiment.get("pools", {}):
        words = verdicts.sentence(found, comparisons, pool)
        said.append(f"All of {found.judged[pool]} together. {words}")
    return said


def _concentration(found: Evidence) -> list[str]:
    """How much of each delta its top directions hold, and what they would hold of noise."""
    experiment, lowest = found.experiment, ranks_of(found)[0]
    order = sorted(experiment["deltas"], key=lambda name: name != experiment["delta"])
    held = {name: energy_at(found.spectra[name], lowest) for name in order}
    changed = [name for name in order if np.isfinite(held[name])]
    said = [
        f"No matrix changed from {found.delta_label(name)}."
        for name in order
        if name not in changed
    ]
    if changed:
        shares = [
            f"{percent(held[name])} of the change {found.delta_label(name)}" for name in changed
        ]
        spectrum = found.spectra[changed[0]]
        noise = percent(null_energy_at(spectrum, lowest))
        nulls = f"in noise of the same shapes they would hold {noise}"
        if "energy_kept_shuffled" in spectrum:
            share = null_energy_at(spectrum, lowest, "energy_kept_shuffled")
            nulls += f", in the same entries shuffled {percent(share)}"
        top, hold = (
            ("The top direction", "holds")
            if lowest == 1
            else (f"The top {lowest} directions", "hold")
        )
        said.append(
            f"{top} of every matrix {hold} {', and '.join(shares)}, by squared norm; {nulls}."
        )
    return said


def _accuracy(found: Evidence, comparisons: pd.DataFrame, benchmark: str) -> str:
    """What the lowest rank reaches on a benchmark, between base and derivative."""
    experiment = found.experiment
    lowest = min(variant["rank"] for variant in found.answered.values())
    base, derivative = experiment["base"], experiment["derivative"]
    below = measure(found, benchmark, base, "mean", "exact", 1)["value"]
    above = measure(found, benchmark, derivative, "mean", "exact", 1)["value"]
    to_derivative = verdicts.against(comparisons, benchmark, derivative, ("mean", 1))
    reached: list[str] = []
    gains: list[str] = []
    for name, variant in found.answered.items():
        if variant["rank"] == lowest:
            value = measure(found, benchmark, name, "mean", "exact", 1)["value"]
            how = other_weights(variant["other"]).done
            reached.append(f"{fraction(value)} with {'them' if reached else others(found)} {how}")
            share = verdicts.gain_kept(to_derivative.loc[name])
            under = f" ({share['under']})" if share["under"] else ""
            gains.append(share["text"] + under)
    label = experiment["benchmarks"][benchmark]["label"]
    said = (
        f"With rank {lowest} alone mean accuracy on {label} is"
        f" {joined(reached)};"
        f" training took {found.label(base)} at {fraction(below)} to {found.label(derivative)} at"
        f" {fraction(above)}"
    )
    # A share of a gain that is not shown would be a number about noise.
    return said + ("." if DASH in gains else f". That is {joined(gains)} of that gain.")


def _why_this_margin(found: Evidence) -> str:
    """Where the margin comes from."""
    if found.experiment["margin"] != MARGIN:
        return "The margin is the configuration's, to be set before anything is sampled."
    return (
        "The margin is the one that the configuration has had since the first version, before any"
        " report was made: one and a half problems of 30, and a third of the 14 points that the"
        " training the post is about is said to have gained on AIME 2024."
    )


def uncertainty(found: Evidence, frames: dict[str, pd.DataFrame]) -> list[str]:
    """What these numbers can and cannot tell, with the sizes that decide it."""
    experiment = found.experiment
    samples = experiment["samples"]
    margin = f"{experiment['margin'] * 100:g} points"
    said = [
        f"The problem is the unit here: {samples} completions of one problem are not {samples}"
        " independent observations. So models are compared problem by problem, on the difference of"
        " their exact values. The interval under a difference is for problems like these (95%, for"
        ' this comparison alone); the one "on these problems" is for the same problems and other'
        " completions. p is for the test against no difference, p of equivalence for the test"
        " against a difference of the margin or more. Both are adjusted (Holm) for all comparisons"
        ' with the same model in the same measure. "Shown to lie within" are the bounds that the'
        " test of equivalence uses: they also allow for problems on which a variant fails and of"
        ' which none is in the benchmark. "Visible" is the smallest true difference that 8 of 10'
        " such experiments find; a dash where too few problems differ to estimate it.",
        "The answers. Kept: the difference from the derivative is shown to lie within the margin,"
        f" {margin}. Lost or better: a difference is shown. Open: neither is shown. Where training"
        " itself is not shown to have gained anything, or gained less than the margin, a variant"
        " that keeps the gain looks like one that loses it: whether it is kept"
        f" {UNANSWERED}. {_why_this_margin(found)}",
    ]
    comparisons = frames["comparisons"]
    said += [verdicts.reach(found, comparisons, name) for name in found.judged]
    if "pools" in experiment:
        said.append(
            "Pooled benchmarks are compared as one benchmark that holds all their problems. Which"
            " benchmarks these are, and how many problems each has, is taken as given: only the"
            " spread between problems of the same benchmark counts."
        )
    said.append(
        f"The small {PLUS_MINUS} under the post's protocol is the spread over"
        f" {experiment['repeats']} re-draws from the same pool. It measures these draws only;"
        " the exact columns need none. It says nothing about other completions or other problems,"
        " and is not a confidence interval."
    )
    return said
