"""Real vLLM on real GPUs: pytest -m gpu."""

import json
import subprocess
import sys

import pandas
import pytest
from sampling_case import SCRIPTS, arguments, make_folder
from tiny_checkpoint import make_model

pytestmark = [pytest.mark.gpu, pytest.mark.slow, pytest.mark.usefixtures("vllm")]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = make_folder(tmp_path_factory.mktemp("gpus"))
    make_model(folder / "model")
    return folder


def sampled(place, output: str, *more: str) -> pandas.DataFrame:
    more = ("--device", "cuda", "--gpu-memory", "0.3", *more)
    command = [sys.executable, str(SCRIPTS / "sample.py"), *arguments(place, output, *more)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert ": leased" in done.stderr or ": given by the scheduler" in done.stderr
    return pandas.read_parquet(place / output)


def test_a_gpu_samples(place):
    table = sampled(place, "one.parquet")
    assert len(table) == 12
    assert set(json.loads((place / "one.json").read_text())["devices"].values()) == {12}


def test_batch_invariant_kernels_make_the_same_in_any_batch(place):
    import torch

    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("of batch invariance: a GPU of compute capability 8.0 or more")
    whole = sampled(place, "whole.parquet", "--batch-invariant")
    single = sampled(place, "single.parquet", "--batch-invariant", "--max-num-seqs", "1")
    pandas.testing.assert_frame_equal(whole, single)


def test_two_gpus_share_a_model(place):
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("of several GPUs: two of them")
    table = sampled(place, "two.parquet", "--tensor-parallel", "2")
    assert len(table) == 12
    (device,) = json.loads((place / "two.json").read_text())["devices"]
    assert device.startswith("2 x ")


def test_computing_in_more_than_is_served_works_on_several_gpus_too(place):
    """Each worker knows the load format that casts."""
    import torch

    if torch.cuda.device_count() < 2:
        pytest.skip("of several GPUs: two of them")
    more = ("--tensor-parallel", "2", "--compute-dtype", "float32")
    assert len(sampled(place, "cast.parquet", *more)) == 12
