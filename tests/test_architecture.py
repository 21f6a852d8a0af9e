"""Architectures: every matrix of a layer is factored, named as something else, or refused."""

import json
import re
from pathlib import Path

import pandas
import pytest
import torch
from safetensors.torch import load_file
from tiny_models import MODELS, make_pair

from lowrank.adapter import write_adapter
from lowrank.delta import factor_pair
from lowrank.variant import write_variant

FULL = 4096  # a rank above every side
IN_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.\d+\.")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in folder.glob("*.safetensors"):
        found |= load_file(file)
    return found


def load(folder: Path) -> torch.nn.Module:
    """The model as transformers loads it; fails on any missing, unexpected or mismatched key."""
    import transformers

    wrapped = "vision_config" in json.loads((folder / "config.json").read_text())
    family = transformers.AutoModelForImageTextToText if wrapped else None
    model, info = (family or transformers.AutoModelForCausalLM).from_pretrained(
        folder, output_loading_info=True, dtype="auto"
    )
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(problem), (problem, info[problem])
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(3, 20)[None]).logits


def ledger_of(delta: Path) -> pandas.DataFrame:
    return pandas.read_parquet(delta / "ledger.parquet")


def build(base: Path, child: Path, folder: Path) -> dict[str, Path]:
    """The delta, a full-rank adapter, both variants of it, and the control without one."""
    factor_pair(base, child, folder / "delta")
    write_adapter(folder / "delta", base, child, FULL, folder / "adapter")
    made = {"delta": folder / "delta", "adapter": folder / "adapter"}
    for name, adapter, other in (
        ("copy", made["adapter"], "copy"), ("keep", made["adapter"], "keep"), ("r0", None, "copy"),
    ):  # fmt: skip
        made[name] = folder / name
        write_variant(base, child, made[name], base, adapter, other, dtype="float32")
    return made


def check_ledger(ledger: pandas.DataFrame, base: Path, child: Path) -> None:
    """Parameters and squared changes are those of the files, shares are whole."""
    old, new = weights(base), weights(child)
    assert ledger.base_parameters.sum() == sum(w.numel() for w in old.values())
    assert ledger.derivative_parameters.sum() == sum(w.numel() for w in new.values())
    changes = {name: float((new[name].double() - old[name].double()).norm() ** 2) for name in old}
    grouped = ledger.assign(stored=ledger.tensor.str.partition("[")[0]).groupby("stored")
    for name, squared in grouped.squared_change.sum().items():
        assert squared == pytest.approx(changes[name], rel=1e-5)
    for share in ("share_of_parameters", "share_of_change"):
        assert ledger[share].sum() == pytest.approx(1)


@pytest.mark.parametrize("kind", MODELS)
def test_architectures(tmp_path, kind):
    sizes, exceptions = MODELS[kind]
    base, child = make_pair(tmp_path, kind, sizes)
    made = build(base, child, tmp_path)
    old, new = weights(base), weights(child)
    ledger = ledger_of(made["delta"])
    check_ledger(ledger, base, child)

    # Full rank with all else copied is the child, in its weights and in what it says.
    for name, weight in weights(made["copy"]).items():
        torch.testing.assert_close(weight, new[name], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        logits(load(made["copy"])), logits(load(child)), rtol=1e-3, atol=1e-4
    )

    # Of a layer's weights the control without a delta has the child's only where that was said.
    stored = ledger.assign(stored=ledger.tensor.str.partition("[")[0]).groupby("stored").first()
    moved = {
        name for name, weight in weights(made["r0"]).items() if not torch.equal(weight, old[name])
    }
    matrices = {n for n in old if IN_LAYER.search(n) and old[n].dim() > 1}
    copied = set(stored.what[sorted(matrices & moved)])
    assert copied <= exceptions | {"bias"}
    assert exceptions <= set(ledger.what)
    assert {n for n in matrices if stored.role[n] == "projection"} == matrices - moved
    load(made["r0"])

    # Kept: the child's projections and biases, everything else the base's.
    kept = weights(made["keep"])
    for name, weight in kept.items():
        projection = stored.role[name] in ("projection", "bias")
        torch.testing.assert_close(weight, (new if projection else old)[name], rtol=1e-5, atol=1e-6)
    load(made["keep"])

    # Modules are unique in their layer.
    factored = ledger[ledger.role == "projection"]
    assert not factored.duplicated(["layer", "module"]).any()
    assert set(factored.layer) == {0, 1}
