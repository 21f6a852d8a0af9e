"""Every key of the configuration is described, and the page that lists them is current."""

from pathlib import Path

import pytest
import yaml

from lowrank.plan.reference import SCHEMAS, keys, read_schema, reference

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", SCHEMAS.values())
def test_every_key_is_described(kind):
    assert [key for key, one, _ in keys(read_schema(kind)) if "description" not in one] == []


def test_the_page_is_what_the_schemas_say():
    """If it is not: python scripts/reference.py"""
    assert (ROOT / "docs/configuration.md").read_text(encoding="utf-8") == reference()


def test_every_key_of_the_files_that_ship_is_on_the_page():
    page = reference()
    for key in yaml.safe_load((ROOT / "config.yaml").read_text()):
        assert f"| `{key}` |" in page
    mini = yaml.safe_load((ROOT / "experiments/mini.yaml").read_text())
    for key in mini["sampling"]:
        assert f"| `sampling.{key}` |" in page


def test_every_pattern_says_in_words_what_it_asks():
    def patterns(one):
        if isinstance(one, dict):
            if "pattern" in one and isinstance(one["pattern"], str):
                yield one
            for part in one.values():
                yield from patterns(part)

    found = [one for kind in SCHEMAS.values() for one in patterns(read_schema(kind))]
    assert len(found) >= 5
    assert all(one["$comment"] for one in found)
