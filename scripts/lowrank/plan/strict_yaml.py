"""YAML as a person means it: no key twice, and every key a text."""

from pathlib import Path
from typing import Any

import yaml

from lowrank.errors import InputError


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what YAML would take in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        lines: dict[str, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.value == "on":  # YAML 1.1 reads it as true; here it is a model's key
                key_node.tag = "tag:yaml.org,2002:str"
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if not isinstance(key, str):
                raise InputError(
                    f"{key_node.value} in line {line} is read as {key!r}; a name is meant: put it"
                    " in quotes"
                )
            if key in lines:
                raise InputError(
                    f"{key} occurs twice, in lines {lines[key]} and {line}; the second would count"
                    " alone: take one out"
                )
            lines[key] = line
        content: dict[str, Any] = super().construct_mapping(node, deep)
        return content


def read_yaml(path: Path, where: str) -> Any:
    """The content of a YAML file; InputError, beginning with `where`, for what is not sound."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not valid YAML ({error})") from None
