"""vLLM in this process: its environment, its start, and the loop that feeds it."""

import gc
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.errors import InputError
from lowrank.files import read_json
from lowrank.machine import free_memory
from lowrank.models.architecture import most_positions, text_config
from lowrank.models.checkpoint import is_quantised
from lowrank.plan.served import VLLM_RANKS, served_rank
from lowrank.sampling.batch_invariance import make_batch_invariant, show_overflow
from lowrank.sampling.casting import cast_adapter, load_format
from lowrank.sampling.feeding import Complete, complete, lora_request

if TYPE_CHECKING:
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
    memory_mb: MiB that the job may use in all (CPU); None: what is free.
    tensor_parallel: GPUs that the model is spread over.
    quantization: what the engine quantises weights to ("fp8"), or None.
    batch_invariant: whether kernels round the same way in any batch (CUDA; on a CPU they do).
    more: further arguments of vLLM's engine, see lowrank.plan.engine_settings.ENGINE.
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
    memory_mb: int | None = None
    tensor_parallel: int = 1
    quantization: str | None = None
    batch_invariant: bool = False
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def casts_once(self) -> bool:
        """Whether the compute dtype is the served dtype, so that vLLM's own cast is enough."""
        return self.compute_dtype == self.dtype


# Variables of vLLM's that are set below.
OURS = (
    "VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL", "VLLM_COMPUTE_NANS_IN_LOGITS",
    "VLLM_RAISE_ON_LOGIT_NANS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_ATTN_SPLIT_KV",
    "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_BATCH_INVARIANT", "VLLM_WORKER_MULTIPROC_METHOD",
)  # fmt: skip


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
        # A logit that is not a number stops the job; else it would be sampled as token 0.
        "VLLM_COMPUTE_NANS_IN_LOGITS": "1",
        "VLLM_RAISE_ON_LOGIT_NANS": "1",
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
    # On several GPUs a worker each: CUDA does not outlive a fork.
    os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"


def versions() -> dict[str, str]:
    """Versions of the packages that determine a completion; vLLM's CPU build is named so.

    Empty where vLLM is not installed.
    """
    found = {}
    for name in ("vllm", "vllm-cpu", "torch", "transformers", "tokenizers"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found if found.keys() & {"vllm", "vllm-cpu"} else {}


def read_config(model: Path, max_model_len: int, gpus: int = 1) -> dict[str, Any]:
    """A checkpoint's config.json; its weights need not be there.

    InputError if there is none, if max_model_len is more than the positions the model was made
    for, or if so many GPUs cannot share its attention heads.
    """
    if not (model / "config.json").is_file():
        raise InputError(f"{model}: no config.json; --model must be a checkpoint folder")
    config: dict[str, Any] = read_json(model / "config.json")
    positions = most_positions(config)
    if positions is not None and max_model_len > positions:
        raise InputError(
            f"{model}/config.json: max_position_embeddings is {positions}, but {max_model_len}"
            " tokens are asked for; lower --max-model-len"
        )
    heads = text_config(config).get("num_attention_heads")
    if heads is not None and heads % gpus:
        raise InputError(
            f"{model}/config.json: num_attention_heads is {heads}, which {gpus} GPUs cannot share"
            " alike; let --tensor-parallel divide it"
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
    """Memory for keys and values on a CPU, in bytes: `sequences` full ones, if there is room.

    At most half of what is free once the weights are there, so that jobs side by side find room;
    with less than `sequences` need, vLLM stops some and computes them again later. InputError,
    which says what is needed and what there is, if not even one full sequence fits.
    """
    heads = config.get("num_attention_heads", 1)
    size = config.get("head_dim") or config.get("hidden_size", heads) // heads
    a_token = 2 * config.get("num_hidden_layers", 1) * size * BYTES[serving.compute_dtype]
    a_token *= config.get("num_key_value_heads") or heads
    # A block more for each: vLLM keeps one for itself, and looks one ahead.
    blocks = ceil(serving.max_model_len / CPU_BLOCK) + 1
    smallest: int
    wanted: int
    smallest, wanted = (blocks * n * CPU_BLOCK * a_token for n in (2, sequences + 1))
    if serving.kv_cache_gib is not None:
        if serving.kv_cache_gib * GIB < smallest / 2:
            raise InputError(
                f"kv_cache_gib is {serving.kv_cache_gib}, but one sequence of"
                f" {serving.max_model_len} tokens needs {smallest / 2 / GIB:.3g}; raise it, or"
                " lower max_model_len"
            )
        return int(serving.kv_cache_gib * GIB)
    weights = sum(path.stat().st_size for path in serving.model.glob("*.safetensors"))
    free = free_memory()
    if serving.memory_mb is not None:
        free = min(free, serving.memory_mb * 2**20)
    half = (free - weights) // 2
    if half < smallest:
        raise InputError(
            f"{serving.model}: {weights / GIB:.3g} GiB of weights and {smallest / GIB:.3g} GiB for"
            f" keys and values do not fit into the {free / GIB:.3g} GiB that are free (or allowed"
            " by mem_mb, or by the container); give more memory, or lower max_model_len"
        )
    return min(wanted, half)


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


@contextmanager
def no_temporaries() -> Iterator[None]:
    """Temporary files of the block go with it: vLLM leaves one behind a start (vllm_dist_...)."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="lowrank-") as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def start(serving: Serving, sequences: int) -> Complete:
    """A running engine for at most `sequences` completions: what turns requests into completions.

    InputError if vLLM refuses the model or was built for another device.
    """
    began = time.monotonic()
    prepare_environment(serving.device, serving.threads)
    os.environ["VLLM_BATCH_INVARIANT"] = str(int(serving.batch_invariant))
    config = read_config(serving.model, serving.max_model_len, serving.tensor_parallel)
    if not any(serving.model.glob("*.safetensors")):
        raise InputError(
            f"{serving.model}: no .safetensors file; completions are missing, and weights are read"
            " from no other format"
        )
    if not versions():
        raise InputError(
            "vLLM is not installed in this Python; run in the sampling environment"
            " (envs/sampling-cpu.yaml or envs/sampling-cuda.yaml)"
        )
    running = min(serving.max_num_seqs, sequences)
    theirs = sorted(name for name in os.environ if name.startswith("VLLM_") and name not in OURS)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"vllm\.")
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)
    with collector_paused(), no_temporaries():
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
        except (ValueError, RuntimeError, OSError, ImportError) as error:
            hint = f"; of yours it reads {', '.join(theirs)}: unset them once" if theirs else ""
            raise InputError(
                f"{serving.model}: vLLM does not start with it ({error}){hint}"
            ) from error
    engine.apply_model(show_overflow)
    if serving.device == "cpu":
        engine.apply_model(make_batch_invariant)
    if serving.adapter is not None:
        add_adapter(engine, serving, serving.adapter)
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
        "distributed_executor_backend": "mp" if serving.tensor_parallel > 1 else "uni",
        "tensor_parallel_size": serving.tensor_parallel,
        "quantization": serving.quantization,
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
    if serving.tensor_parallel > 1:
        chosen["worker_extension_cls"] = "lowrank.sampling.workers.Extension"
    if serving.adapter is not None:
        rank = adapter_rank(serving.adapter)
        chosen |= {"enable_lora": True, "max_lora_rank": rank, "max_loras": 1}
    return chosen | serving.more


def add_adapter(engine: "LLMEngine", serving: Serving, adapter: Path) -> None:
    """Have the engine load its adapter, with factors of the values that are served."""
    uncast = nullcontext(adapter)
    with uncast if serving.casts_once else cast_adapter(adapter, serving.dtype) as folder:
        engine.add_lora(lora_request(adapter, folder))
