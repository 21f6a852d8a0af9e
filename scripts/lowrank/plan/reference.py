"""The page that documents every key of the configuration, made from the schemas."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from lowrank.places import ROOT

SCHEMAS = {"config.yaml": "config", "experiments/<name>.yaml": "experiment"}


def read_schema(kind: str, root: Path = ROOT) -> dict[str, Any]:
    """workflow/schemas/<kind>.schema.yaml."""
    path = root / f"workflow/schemas/{kind}.schema.yaml"
    schema: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return schema


def keys(schema: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(key, its schema, whether it must be given) of all keys; models.<name>.label for one each."""
    required = schema.get("required", [])
    for key, one in schema.get("properties", {}).items():
        yield f"{above}{key}", one, key in required
        yield from keys(one, f"{above}{key}.")
        if isinstance(one.get("additionalProperties"), dict):
            yield from keys(one["additionalProperties"], f"{above}{key}.<name>.")


def values(one: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a key may be, in words: "integer, 1 to 1024"."""
    if "$ref" in one:
        name = one["$ref"].rpartition("/")[2]
        return {"name": "name", "repo": "owner/name"}.get(name, f"as `sampling.{name}`")
    if "enum" in one:
        return ", ".join("null" if value is None else f"`{value}`" for value in one["enum"])
    if "if" in one:  # a name alone, or names with their own list
        names = ", ".join(f"`{name}`" for name in one["else"]["properties"])
        return f"{values(one['then'], definitions)}; with ranks of their own: {names}"
    kinds: list[str] = one["type"] if isinstance(one["type"], list) else [one["type"]]
    words = " or ".join(
        {"object": "keys", "array": "list", "string": "text"}.get(k, k) for k in kinds
    )
    low, high = one.get("minimum"), one.get("maximum")
    above, below = one.get("exclusiveMinimum"), one.get("exclusiveMaximum")
    if low is not None and high is not None:
        words += f", {low} to {high}"
    elif low is not None:
        words += f", {low} or more"
    bounds = [f"above {above}"] * (above is not None) + [f"below {below}"] * (below is not None)
    if above is not None and high is not None:
        bounds.append(f"at most {high}")
    if bounds:
        words += f", {' and '.join(bounds)}"
    items = one.get("items", {})
    return f"{words} of {values(items, definitions)}" if "array" in kinds and items else words


def reference() -> str:
    """docs/configuration.md."""
    lines = [
        "# Every key of the configuration",
        "",
        "Made from `workflow/schemas` by `python scripts/reference.py`; not to be edited by hand.",
        "How they are used: see the comments in `config.yaml` and in the files of `experiments/`.",
    ]
    for title, kind in SCHEMAS.items():
        schema = read_schema(kind)
        lines += ["", f"## {title}", "", "| key | values | what it says |", "|---|---|---|"]
        for key, one, needed in keys(schema):
            said = " ".join(one["description"].split()).replace("|", "\\|")
            allowed = values(one, schema["$defs"]) + ("" if needed else "; may be left out")
            lines.append(f"| `{key}` | {allowed} | {said} |")
    return "\n".join(lines) + "\n"
