"""What was stored of a change, on the page, worked out once more from fidelity.json."""

from itertools import pairwise

import pytest
from page_reader import agrees, heads, shows
from uneven_case import PROBLEMS

from lowrank.files import read_json


def test_what_was_stored_of_the_change(uneven):
    """fidelity.json, beside the mean accuracy; in a table, in a figure and in fidelity.csv."""
    (table,) = uneven.page.tables("served")
    numbers = {
        "relative_error": "relative error",
        "left_at_base": "left at base",
        "cosine": "cosine",
    }
    scopes = {"projections": "projection", "all tensors": "all"}
    labels = {"sums": "Sums", "hard": "Hard sums"}
    assert heads(table) == [
        ("variant", ""),
        *((head, group) for group in scopes for head in numbers.values()),
        *((labels[benchmark], "mean accuracy") for benchmark in PROBLEMS),
    ]
    variants = list(uneven.experiment["variants"])
    assert list(table.texts.index) == [uneven.label(variant) for variant in variants]
    frame = uneven.csv("fidelity").set_index(["variant", "scope"])
    ((number, caption),) = uneven.page.figures("served")
    assert caption.startswith("How much of the intended change of the projections")
    errors, left = uneven.drawn[number].axes
    rows = dict(
        zip([t.get_text() for t in errors.get_yticklabels()], errors.get_yticks(), strict=True)
    )
    assert all(upper > lower for upper, lower in pairwise(rows[name] for name in table.texts.index))
    for variant in variants:
        content = read_json(uneven.folder / f"variants/{variant}/fidelity.json")
        stored = {"all": content["all"], **content["roles"]}
        cells = table.texts.loc[uneven.label(variant)]
        for group, scope in scopes.items():
            for name, head in numbers.items():
                assert shows(cells[group, head], stored[scope][name]), (variant, scope, name)
        for scope, of in stored.items():
            for name in numbers:
                wanted = float("nan") if of[name] is None else of[name]
                assert frame.loc[(variant, scope), name] == pytest.approx(
                    wanted, nan_ok=True, abs=1e-9
                )
        for benchmark, label in labels.items():
            mean = uneven.grades[benchmark][variant]["correct"].mean()
            assert agrees(cells["mean accuracy", label], mean)
        for axes, name in ((errors, "relative_error"), (left, "left_at_base")):
            points = {y: x for x, y in axes.collections[-1].get_offsets().tolist()}
            wanted = stored["projection"][name]
            assert points[rows[uneven.label(variant)]] == pytest.approx(wanted)
