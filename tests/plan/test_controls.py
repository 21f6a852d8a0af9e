"""Kinds of control, and where other weights come from, are known in one place."""

from pathlib import Path

import yaml

from lowrank.plan.controls import CONTROLS, OTHER_WEIGHTS, in_order

ROOT = Path(__file__).parents[2]


def test_the_configuration_knows_what_the_registry_knows():
    keys = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())["properties"]
    assert keys["controls"]["items"]["then"]["enum"] == list(CONTROLS)
    assert keys["only_read"]["items"]["then"]["enum"] == ["lowrank", *CONTROLS]
    assert keys["other"]["items"]["enum"] == list(OTHER_WEIGHTS)
    comments = (ROOT / "config.yaml").read_text()
    assert all(f"#   {name} " in comments for name in CONTROLS)


def test_a_way_that_is_new_comes_after_those_known():
    assert in_order(["zero", "keep", "copy", "keep", "mean"]) == ["copy", "keep", "mean", "zero"]
