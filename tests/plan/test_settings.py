"""The types of the configuration have the keys and the kinds of values that the schemas have."""

import json
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

import pytest
import yaml

from lowrank.plan import settings
from lowrank.plan.configuration import load
from lowrank.plan.reference import read_schema

ROOT = Path(__file__).parents[2]
KINDS = {str: "string", int: "integer", float: "number", bool: "boolean", NoneType: "null",
         list: "array", dict: "object"}  # fmt: skip
OF_VALUES = {str: "string", NoneType: "null", int: "integer"}


def kinds(kind: Any) -> set[str]:
    """The kinds of JSON values that a type holds."""
    parts = get_args(kind) if isinstance(kind, UnionType) else [kind]
    return {"object" if is_typeddict(part) else KINDS[get_origin(part) or part] for part in parts}


def allowed(schema: dict[str, Any]) -> set[str]:
    """The kinds of JSON values that a schema takes."""
    if "enum" in schema:
        return {OF_VALUES[type(value)] for value in schema["enum"]}
    return {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])


def check(kind: Any, schema: dict[str, Any], whole: dict[str, Any], where: str) -> None:
    """Every key of the schema is one of the type, needed alike, and of the same kind; no other."""
    while "$ref" in schema:
        name, schema = schema["$ref"], whole
        for key in name.removeprefix("#/").split("/"):
            schema = schema[key]
    if get_origin(kind) is NotRequired:
        (kind,) = get_args(kind)
    assert kinds(kind) == allowed(schema), where
    for part in get_args(kind) if isinstance(kind, UnionType) else [kind]:
        if is_typeddict(part):
            assert set(part.__annotations__) == set(schema["properties"]), where
            assert set(part.__required_keys__) == set(schema.get("required", ())), where
            for name, one in get_type_hints(part, include_extras=True).items():
                check(one, schema["properties"][name], whole, f"{where}.{name}")
        elif get_origin(part) is list:
            check(*get_args(part), schema["items"], whole, f"{where}[]")
        elif get_origin(part) is dict and "additionalProperties" in schema:
            check(get_args(part)[1], schema["additionalProperties"], whole, f"{where}.<name>")


@pytest.mark.parametrize(
    ("kind", "file"), [(settings.Config, "config"), (settings.Subject, "experiment")]
)
def test_a_file_of_the_configuration_has_the_keys_of_its_schema(kind, file):
    schema = read_schema(file)
    check(kind, schema, schema, file)


WHOLE = [path.stem for path in ROOT.glob("experiments/*.yaml")
         if "TO-FILL-IN" not in path.read_text()]  # fmt: skip


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_the_description_of_an_experiment_has_the_keys_that_the_report_reads(name):
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    described = json.loads(load(config | {"experiment": name}, ROOT).description())
    kind = settings.Described
    assert set(described) <= set(kind.__annotations__)
    assert set(described) >= set(kind.__required_keys__)
    assert set(described["sampling"]) <= set(settings.Completing.__annotations__)
    for variant in described["variants"].values():
        assert set(variant) == set(settings.VariantForm.__annotations__)
