"""Variants of models as people have them: odd dtypes, buffers, configurations and heads."""

import json
import math
import shutil

import pytest
import torch
from conftest import EMBEDDING, config, write_checkpoint
from safetensors.torch import load_file, save_file
from variant_case import fidelity, load_strictly, stored

from lowrank.delta.factor import factor_pair
from lowrank.errors import InputError
from lowrank.files import sha256
from lowrank.models.manifest import write_manifest
from lowrank.variants.merge import write_variant

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


BIAS = "model.layers.1.mlp.gate.e_score_correction_bias"
MASK, IDS = "model.layers.0.self_attn.masked_bias", "model.position_ids"


def with_more(trio, folder, side, **more):
    """A model of the trio with further tensors, in one file."""
    weights = stored(getattr(trio, side)) | more
    given = config(False, "bfloat16" if side == "base" else "float32")
    return write_checkpoint(folder / side, weights, given)


@pytest.mark.parametrize("other", ["copy", "keep"])
def test_what_is_wider_than_the_rest_stays_float32(trio, tmp_path, other):
    """Router biases that differ by less than a step of bfloat16, in one model or in both."""
    bias = torch.tensor([34.41, 34.47, 34.53, 34.59])
    base = with_more(trio, tmp_path, "base", **{BIAS: bias})
    derivative = with_more(trio, tmp_path, "derivative", **{BIAS: bias + 0.01})
    write_variant(base, derivative, tmp_path / "v", trio.base, None, other)
    written = stored(tmp_path / "v")
    assert torch.equal(written.pop(BIAS), bias + 0.01 if other == "copy" else bias)
    # A derivative stored in float32 throughout is cast all the same.
    assert {weight.dtype for weight in written.values()} == {torch.bfloat16}
    assert fidelity(tmp_path / "v")["tensors"][BIAS]["relative_error"] in (0, None)


@pytest.mark.parametrize(("other", "first"), [("copy", 5), ("keep", 0)])
def test_integer_buffers_are_carried_over(trio, tmp_path, other, first):
    def buffers(start):
        return {IDS: torch.arange(start, start + 512)[None], MASK: torch.tensor(start > 0)}

    base = with_more(trio, tmp_path, "base", **buffers(0))
    derivative = with_more(trio, tmp_path, "derivative", **buffers(5))
    write_variant(base, derivative, tmp_path / "v", trio.base, None, other)
    written = stored(tmp_path / "v")
    for name, value in buffers(first).items():
        assert torch.equal(written[name], value)
    factor_pair(base, derivative, tmp_path / "delta")  # not what a delta is about


def test_what_was_left_in_a_configuration_is_put_right(trio, tmp_path):
    """A quantization_config beside plain weights goes; Infinity, which some models have, stays."""
    given = config(False, "float32") | {
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]},
        "time_step_limit": [0.0, math.inf],
    }
    derivative = write_checkpoint(tmp_path / "d", stored(trio.derivative), given)
    write_variant(trio.base, derivative, tmp_path / "v", trio.base, None)
    written = json.loads((tmp_path / "v" / "config.json").read_text())
    assert "quantization_config" not in written
    assert written["time_step_limit"] == [0.0, math.inf]
    manifest = (tmp_path / "v" / "manifest.json").read_text()
    differences = json.loads(manifest, parse_constant=pytest.fail)["source"]["config_differences"]
    assert differences["time_step_limit"]["derivative"] == [0.0, "Infinity"]
    load_strictly(tmp_path / "v")


def test_a_stored_head_beside_a_flag_that_ties_is_served(trio, tmp_path):
    """As transformers reads the derivative: its head is its own."""
    derivative = write_checkpoint(tmp_path / "d", stored(trio.derivative), config(True, "float32"))
    write_variant(trio.base, derivative, tmp_path / "v", trio.base, None, dtype="float32")
    model, theirs = load_strictly(tmp_path / "v"), load_strictly(derivative)
    assert torch.equal(model.lm_head.weight, theirs.lm_head.weight)
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


def test_origins_are_what_the_files_hold(trio, tmp_path):
    """Weights saved over the old ones, of the same size, without and with a manifest of ours."""
    base = shutil.copytree(trio.base, tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    for number in range(2):
        weights[EMBEDDING][0, 0] += 1
        save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
        write_variant(base, trio.derivative, tmp_path / "v", trio.base, None)
        manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
        told = manifest["source"]["base"]["weights"]["model.safetensors"]
        assert told == sha256(base / "model.safetensors"), number
    write_manifest(base, {"path": "x"})
    weights[EMBEDDING][0, 0] += 1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"its content is not what manifest.json says"):
        write_variant(base, trio.derivative, tmp_path / "v", trio.base, None)
