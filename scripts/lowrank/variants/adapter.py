"""A delta cut to a rank, as a LoRA adapter that PEFT and vLLM load.

LoRA adds lora_B lora_A to a weight (alpha / r = 1 here). With D = U S V that product is
U_r S_r V_r; each factor takes sqrt(S_r): lora_B = U_r sqrt(S_r), lora_A = sqrt(S_r) V_r.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lowrank.claims import check_output, check_space, claim
from lowrank.delta.factor import (
    basis_file,
    check_origin,
    checked_difference,
    read_directions,
    read_sigma,
)
from lowrank.errors import InputError
from lowrank.files import read_json, sha256, write_json
from lowrank.models.architecture import (
    input_first,
    merged_only,
    paths_in_memory,
)
from lowrank.models.checkpoint import Checkpoint, open_pair
from lowrank.models.manifest import MANIFEST, read_manifest
from lowrank.models.safetensors_file import TensorEntry, read_header, read_tensor, write_tensors
from lowrank.plan.served import served_rank
from lowrank.variants.factors import CONFIG_FILE, PREFIX, WEIGHTS_FILE, read_factors

if TYPE_CHECKING:
    import torch

RECORD_FILE = "adapter.json"


def split(D: "torch.Tensor", directions: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
    """D [m, n] projected on directions [r, min(m, n)], as lora_A [r, n] and lora_B [m, r].

    directions: orthonormal rows, singular vectors of D's shorter side. The product of the factors
    is D projected, whatever the scale each gets; both get the square root of the singular value,
    measured as the length of the projected D, and a direction that D does not have gets zeros.
    """
    import torch

    tall = D.shape[0] >= D.shape[1]
    image = (directions @ D.T) if tall else (directions @ D)  # [r, longer side], rows sigma_i u_i
    root = image.norm(dim=1, keepdim=True).sqrt()
    inverse = torch.where(root > 0, 1 / root, 0)
    scaled, image = directions * root, image * inverse
    return (scaled, image.T) if tall else (image, scaled.T)


def random_factors(
    name: str, shape: tuple[int, int], sigma: "torch.Tensor", seed: int
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """lora_A, lora_B with these singular values in directions drawn at random.

    The draw follows from the seed and the weight's name.

    A control: the norm and the rank of the truncated delta, in directions that mean nothing.
    """
    import torch

    mixed = hashlib.sha256(f"{seed}\n{name}".encode()).digest()[:7]
    generator = torch.Generator().manual_seed(int.from_bytes(mixed, "little"))
    left, right = (
        torch.linalg.qr(torch.randn(side, len(sigma), generator=generator)).Q for side in shape
    )
    root = sigma.sqrt().float()
    return (right * root).T, left * root


@dataclass(frozen=True)
class Cut:
    """What an adapter takes of one matrix's delta."""

    shape: tuple[int, int]  # the matrix, as stored
    rank: int  # the rank asked for, or the shorter side where that is less
    rows: slice  # which of the delta's directions, strongest first
    energy_kept: float  # share of ||D||_F^2
    scale: float  # of the product of the factors: 1, or what gives it D's norm
    base: str | None  # content digest of the base's weight (delta.factor.content_digest)


def cut(
    delta: Path, name: str, shape: Sequence[int], rank: int, directions: str, rescale: bool
) -> Cut:
    """Decide what an adapter of `rank` takes of a matrix of a delta; see `write_adapter`."""
    effective = min(rank, *shape)
    energy = read_sigma(delta, name) ** 2
    first = len(energy) - effective if directions == "bottom" else 0
    rows = slice(first, first + effective)
    total, kept = float(energy.sum()), float(energy[rows].sum())
    return Cut(
        shape=(shape[0], shape[1]),
        rank=effective,
        rows=rows,
        energy_kept=kept / total if total else 0.0,
        scale=math.sqrt(total / kept) if rescale and kept else 1.0,
        base=read_header(basis_file(delta, name))[1].get("base"),
    )


def cut_factors(
    delta: Path,
    base: Checkpoint,
    derivative: Checkpoint,
    name: str,
    taken: Cut,
    random_seed: int | None = None,
) -> tuple["torch.Tensor", "torch.Tensor"]:
    """lora_A [rank, in], lora_B [out, rank] of one matrix; in random directions with a seed."""
    if random_seed is None:
        rows = read_directions(delta, name, taken.rows.start, taken.rows.stop)
        A, B = split(checked_difference(delta, base, derivative, name), rows)
    else:
        import torch

        sigma = torch.from_numpy(read_sigma(delta, name)[taken.rows])
        A, B = random_factors(name, taken.shape, sigma, random_seed)
    if input_first(base.config):  # PEFT's factors are of [out, in], whatever the weight is
        A, B = B.T, A.T
    root = math.sqrt(taken.scale)
    return A * root, B * root


def write_adapter(
    delta_folder: str | Path,
    base_folder: str | Path,
    derivative_folder: str | Path,
    rank: int,
    output: str | Path,
    threads: int = 1,
    pad_rank: bool = False,
    directions: str = "top",
    rescale: bool = False,
    seed: int = 0,
) -> None:
    """Write the best rank-`rank` approximation of a delta as a PEFT adapter (float32).

    Every module gets the same r; a matrix whose shorter side is less than that is kept whole and
    filled up with zeros. adapter.json has each matrix's effective rank and the share of ||D||_F^2
    that it keeps. r is at most the largest shorter side; with pad_rank it is the next rank
    that vLLM serves. One matrix is in memory at a time.
    Controls: directions "bottom" takes the weakest `rank` directions instead, "random" keeps the
    strongest singular values in directions drawn from the seed; rescale gives each matrix back
    its ||D||_F.
    Raises InputError if the delta was computed from other weights than those that are read.
    """
    import torch

    torch.set_num_threads(threads)
    delta_folder, output = Path(delta_folder), Path(output)
    if rank < 1:
        raise InputError(f"rank {rank}: a rank of at least 1 expected")
    inputs = (delta_folder, base_folder, derivative_folder)
    check_output(output, inputs)
    delta = read_json(delta_folder / MANIFEST)
    base, derivative = open_pair(base_folder, derivative_folder)
    check_origin(delta, "base", base, delta_folder)
    check_origin(delta, "derivative", derivative, delta_folder)
    shapes = {name: matrix["shape"] for name, matrix in delta["matrices"].items()}
    cuts = {
        name: cut(delta_folder, name, shape, rank, directions, rescale)
        for name, shape in shapes.items()
    }
    stored_rank = min(rank, max(min(shape) for shape in shapes.values()))
    if pad_rank:
        stored_rank = served_rank(stored_rank)

    tensors = factor_tensors(base, shapes, stored_rank)
    check_space(output, sum(4 * math.prod(shape) for _, shape in tensors.values()))
    claim(output, inputs, (WEIGHTS_FILE, CONFIG_FILE, RECORD_FILE))
    for left in output.glob(f".{Path(WEIGHTS_FILE).stem}.*.tmp*"):  # by a killed run
        left.unlink()
    random_seed = seed if directions == "random" else None

    def factors() -> Iterator["torch.Tensor"]:
        for name, taken in cuts.items():
            A, B = cut_factors(delta_folder, base, derivative, name, taken, random_seed)
            spare = stored_rank - taken.rank
            yield torch.nn.functional.pad(A, (0, 0, 0, spare))
            yield torch.nn.functional.pad(B, (0, spare))

    size, weights_hash = write_tensors(output / WEIGHTS_FILE, tensors, factors(), {"format": "pt"})
    write_json(output / CONFIG_FILE, _peft_config(base, list(cuts), stored_rank))
    write_json(
        output / RECORD_FILE,
        {
            "rank": rank,
            "stored_rank": stored_rank,
            "directions": directions,
            "seed": random_seed,
            "rescaled": rescale,
            "delta": {
                "manifest": sha256(delta_folder / MANIFEST),
                "base": delta["base"],
                "derivative": delta["derivative"],
            },
            "weights": {"size": size, "sha256": weights_hash},
            "config": {"sha256": sha256(output / CONFIG_FILE)},
            "matrices": {
                name: {
                    "rank": taken.rank,
                    "capped": taken.rank < rank,
                    "energy_kept": taken.energy_kept,
                    "scale": taken.scale,
                    "base": taken.base,
                }
                for name, taken in cuts.items()
            },
        },
    )


def factor_tensors(
    base: Checkpoint, shapes: Mapping[str, Sequence[int]], rank: int
) -> dict[str, tuple[str, tuple[int, int]]]:
    """Names, dtypes and shapes of an adapter's tensors, as PEFT names them."""
    tensors = {}
    for name, shape in shapes.items():
        rows, columns = reversed(shape) if input_first(base.config) else shape
        key = PREFIX + paths_in_memory(base.config, name)[0]
        tensors[f"{key}.lora_A.weight"] = ("F32", (rank, columns))
        tensors[f"{key}.lora_B.weight"] = ("F32", (rows, rank))
    return tensors


def target_modules(base: Checkpoint, names: list[str]) -> list[str]:
    """What PEFT's target_modules has to be so that it finds the modules of these weights, no other.

    PEFT takes every module whose path ends in one of the entries. An entry is the module's last
    word where all modules of that word are meant (a vision tower may have its own q_proj); else
    the paths, as stored and as transformers has them in memory. Where it would find only some of
    the modules, the one entry says so instead: PEFT finds none then, and refuses with it.
    """
    words = {_word(name) for name in names}
    every = {name for name in base.tensors if name.endswith(".weight") and _word(name) in words}
    of_experts = sorted(_word(name) for name in every if ".experts." in name)
    reason = merged_only(names)
    if not reason and of_experts:
        reason = f"PEFT takes every {of_experts[0]} of this model for an expert's"
    if reason:
        return [f"merge this adapter with build_variant.py, PEFT would load a part of it: {reason}"]
    if every <= set(names):
        return sorted(words)
    return sorted({path for name in names for path in paths_in_memory(base.config, name)})


def _word(name: str) -> str:
    """The last word of a weight's module."""
    return name.removesuffix(".weight").rpartition(".")[2]


def _peft_config(base: Checkpoint, names: list[str], rank: int) -> dict[str, Any]:
    """adapter_config.json of an adapter for these weights."""
    source = read_manifest(base)["source"]
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        # Its source where that is known: where results lie changes no adapter.
        "base_model_name_or_path": source.get("repo", source.get("path", str(base.folder))),
        "revision": source.get("revision"),
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": target_modules(base, names),
        "modules_to_save": None,
        "fan_in_fan_out": input_first(base.config),
        "inference_mode": True,
        "init_lora_weights": True,
        "use_rslora": False,
        "use_dora": False,
    }


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter on disk: by weight name its two factors, and what scales their product.

    bases: by weight name the content (delta.content_digest) of the base's weight that it was
    computed from; empty if it was not made here.
    """

    folder: Path
    factors: dict[str, tuple[TensorEntry, TensorEntry]]  # lora_A [r, in], lora_B [out, r]
    scale: float
    turned: bool = False  # the weights are stored [in, out]
    bases: dict[str, str | None] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The weights that it changes."""
        return list(self.factors)

    @property
    def file(self) -> Path:
        """Where the factors lie."""
        return next(iter(self.factors.values()))[0].file

    def rows(
        self, name: str, dtype: "torch.dtype | None" = None
    ) -> "Callable[[int, int], torch.Tensor]":
        """Rows [first, stop) of the change of a weight as stored, float32.

        dtype: what the factors are cast to before they are multiplied; None: they stay float32.
        """
        A, B = (factor.to(dtype or factor.dtype).float() for factor in self.read(name))
        return lambda first, stop: B[first:stop] @ A

    def read(self, name: str) -> tuple["torch.Tensor", "torch.Tensor"]:
        """(A, B), float32, with the delta of the weight as stored = B A; the scale is in B."""
        A, B = (read_tensor(entry).float() for entry in self.factors[name])
        A, B = (B.T, A.T) if self.turned else (A, B)
        return A, B if self.scale == 1 else B * self.scale


def check_recorded(path: Path, recorded: str, where: str) -> None:
    """InputError for a file whose SHA-256 is not the one that was recorded."""
    if sha256(path) != recorded:
        raise InputError(
            f"{path}: was changed since it was built (its hash is not that of {where}); build it"
            " again"
        )


def open_adapter(folder: str | Path, base: Checkpoint) -> Adapter:
    """Open an adapter and check it against the base it is meant for.

    Raises InputError for anything in it that a plain sum W + B A would leave out: biases, DoRA
    magnitudes, other trained modules, a factor without its partner, a weight the base lacks, a
    configuration that means something else (see lowrank.variants.lora_config).
    """
    folder = Path(folder)
    factors, scale = read_factors(folder, base)
    bases = {}
    if (folder / RECORD_FILE).is_file():
        record = read_json(folder / RECORD_FILE)
        for name, said in ((WEIGHTS_FILE, record["weights"]), (CONFIG_FILE, record["config"])):
            check_recorded(folder / name, said["sha256"], RECORD_FILE)
        check_origin(record["delta"], "base", base, folder)
        bases = {name: matrix.get("base") for name, matrix in record["matrices"].items()}
    return Adapter(folder, factors, scale, input_first(base.config), bases)
