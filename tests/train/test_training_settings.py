"""The training settings hold what their types say, and a file without a stage is refused."""

from pathlib import Path
from typing import get_args, get_origin, get_type_hints, is_typeddict

import pytest
import yaml

from lowrank.errors import InputError
from lowrank.train.settings import Settings, read_settings

FOLDER = Path(__file__).parents[2] / "experiments/training"


def check(content: object, kind: type, where: str) -> None:
    """Every key is there, no other, and each value is of its kind."""
    if is_typeddict(kind):
        assert content.keys() == kind.__annotations__.keys(), where
        for name, part in get_type_hints(kind).items():
            check(content[name], part, f"{where}.{name}")
    elif get_origin(kind) is list:
        assert all(isinstance(part, get_args(kind)[0]) for part in content), where
    else:
        assert isinstance(content, kind), where


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_file_holds_what_the_types_say(path):
    check(read_settings(path), Settings, path.name)


def test_a_stage_that_is_missing_is_named(tmp_path):
    content = yaml.safe_load((FOLDER / "mini.yaml").read_text())
    del content["worked"]
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(InputError, match=r"x\.yaml: worked missing; every one of model, prompt"):
        read_settings(tmp_path / "x.yaml")
    with pytest.raises(InputError, match="model, prompt, benchmark, pretrained, worked, sft, rl"):
        read_settings(tmp_path / "empty.yaml")
