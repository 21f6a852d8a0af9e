"""vLLM serves what the first half makes: merged, and unmerged on a carrier, the same text."""

import json
import os
import subprocess
import sys

import pytest

from lowrank.delta.factor import factor_pair
from lowrank.variants.adapter import write_adapter
from lowrank.variants.merge import write_variant

# A process of its own for each engine: vLLM holds on to its memory and settings.
PROGRAM = """
import json, sys
from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

model, adapter = sys.argv[1:3]
flags = {}
if adapter:
    rank = json.load(open(f"{adapter}/adapter_config.json"))["r"]
    flags = {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
engine = LLM(model, skip_tokenizer_init=True, distributed_executor_backend="uni",
             enforce_eager=True, dtype="float32", max_model_len=128, max_num_seqs=8, **flags)
sampling = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True, detokenize=False)
prompts = [{"prompt_token_ids": [5 + i * k % 100 for k in range(20)]} for i in range(1, 9)]
request = LoRARequest("adapter", 1, adapter) if adapter else None
outputs = engine.generate(prompts, sampling, use_tqdm=False, lora_request=request)
print("TOKENS", json.dumps([list(output.outputs[0].token_ids) for output in outputs]))
"""


def greedy(model, adapter="") -> list[list[int]]:
    environment = os.environ | {
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-c", PROGRAM, str(model), str(adapter)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    line = next(line for line in result.stdout.splitlines() if line.startswith("TOKENS "))
    return json.loads(line.removeprefix("TOKENS "))


@pytest.mark.slow
def test_merged_and_unmerged_give_the_same_greedy_text(vllm, trio, tmp_path):
    models = trio.base, trio.derivative
    factor_pair(*models, tmp_path / "delta")
    # Rank 3 is not one that vLLM serves: zeros fill it up to 8.
    write_adapter(tmp_path / "delta", *models, 3, tmp_path / "r3", pad_rank=True)
    for name, carrier in (("merged", False), ("carrier", True)):
        write_variant(
            *models, tmp_path / name, trio.base, tmp_path / "r3", "copy",
            dtype="float32", unmerged=carrier,
        )  # fmt: skip
    merged = greedy(tmp_path / "merged")
    assert greedy(tmp_path / "carrier", tmp_path / "r3") == merged
    assert greedy(tmp_path / "carrier") != merged
