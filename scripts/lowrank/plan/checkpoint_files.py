"""Which files of a folder, or of a repository on a hub, make up a checkpoint.

As transformers looks for them, and with what people's folders also hold: stale indices, other
formats' weights, links into a cache.
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

from lowrank.errors import InputError
from lowrank.files import read_json

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
GENERATION = "generation_config.json"
CONFIG_FILES = ("config.json", GENERATION)
# In a fetched model's folder: what prompts are made with and end tokens are read from.
TOKENIZER = "tokenizer"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_RECORD = "adapter_source.json"  # beside them: where we have them from
ADAPTER_FILES = (ADAPTER_CONFIG, ADAPTER_WEIGHTS, "adapter_model.bin")
PICKLES = re.compile(r".*\.(bin|pt|pth|ckpt|pkl|pickle|msgpack|h5)$")
SHARD = re.compile(r"model-(\d{5,})-of-(\d{5,})\.safetensors")


def plain_file(folder: Path, name: str) -> Path:
    """The path of a file directly in a folder; InputError if its name leads out of it.

    Links are followed, if they stay in the folder, lead to weights (which are read as nothing else)
    or into the cache of a hub's client. Others could lead to any file of the reader's.
    """
    path = folder / name
    # Names with a backslash or a drive are refused too, whatever the system.
    if name in ("", ".", "..") or "\0" in name or re.search(r"[/\\:]", name):
        raise InputError(f"{folder}: names the file {name!r}; a plain name in the folder expected")
    if path.is_symlink() and not name.endswith(".safetensors"):
        target = path.resolve()
        cached = target.parent.name == "blobs" and target.parents[1].name.startswith("models--")
        if target.parent != folder.resolve() and not cached:
            raise InputError(
                f"{path}: a link that leads out of the folder, to {path.readlink()}; put the file "
                "itself there (cp -L)"
            )
    if not path.is_file():
        lost = f", it is a link to {path.readlink()}" if path.is_symlink() else ""
        raise InputError(f"{path}: no such file{lost}")
    return path


def weight_files(folder: Path) -> list[str]:
    """Names of the safetensors files that make up the checkpoint in a folder.

    InputError if there are none, only pickles, an adapter, or the index leads out of the folder.
    """
    present = sorted(path.name for path in folder.iterdir())
    return weight_names(
        str(folder), present, lambda: read_index(plain_file(folder, INDEX), str(folder))
    )


def taken(weights: Sequence[str], present: Iterable[str]) -> list[str]:
    """The files of a checkpoint that are taken over: weights first, then what describes them."""
    present = set(present)
    index = [INDEX] if list(weights) != [SINGLE] else []
    return [*weights, *(n for n in (*index, *CONFIG_FILES, *TOKENIZER_FILES) if n in present)]


def weight_names(
    where: str, present: Iterable[str], weight_map: Callable[[], dict[str, str]]
) -> list[str]:
    """Which of the files `present` hold the weights; `weight_map()` reads the index if asked.

    model.safetensors, or the files that the index names, or shards without an index if none is
    missing. Where there is model.safetensors and an index of other files, transformers reads the
    first, and so is done here. Whatever else lies there (consolidated.safetensors, leftovers of
    another upload) belongs to no checkpoint that a loader would read.
    """
    present = set(present)
    _no_adapter(where, present)
    if SINGLE in present:
        return [SINGLE]
    if INDEX in present:
        files = sorted(set(weight_map().values()))
        missing = [name for name in files if name not in present]
        if missing:
            raise InputError(
                f"{where}: {INDEX} names {missing[0]}, which is missing; without it the checkpoint "
                "is incomplete: get it, or take another revision"
            )
        return files
    if shards := _complete_shards(present):
        return shards
    raise InputError(f"{where}: {_instead(present)}")


def _no_adapter(where: str, present: Collection[str]) -> None:
    """InputError if an adapter lies there, which transformers would put on the weights."""
    found = [name for name in ADAPTER_FILES if name in present]
    if not found:
        return
    merge = "give it as `adapter` of a model that is `on` its base, which merges it"
    if any(name in present for name in (SINGLE, INDEX)):
        raise InputError(
            f"{where}: holds an unmerged adapter ({found[0]}) beside base weights; the weights "
            f"alone are not the trained model: {merge}, or a folder without the adapter's files "
            "if they do not belong to it"
        )
    raise InputError(f"{where}: is an adapter ({found[0]}), no whole model; {merge}")


def adapter_there(where: str, folder: str, present: Iterable[str]) -> None:
    """InputError unless there is a PEFT adapter in safetensors, saying what is there instead.

    folder: in the place that `present` are the files of, "" for its top.
    """
    present = set(present)
    prefix = f"{folder}/" if folder else ""
    if {prefix + ADAPTER_CONFIG, prefix + ADAPTER_WEIGHTS} <= present:
        return
    if prefix + ADAPTER_CONFIG in present:
        pickle = f"{prefix}adapter_model.bin" in present
        raise InputError(
            f"{where}: has {ADAPTER_CONFIG} and no {ADAPTER_WEIGHTS}"
            + (", only a pickle, which could run any code" if pickle else "")
            + "; take a revision that has it, or save the adapter again with PEFT"
        )
    others = sorted(name.rpartition("/")[0] for name in present if name.endswith(ADAPTER_CONFIG))
    if others:
        remedy = f"subfolder may be {', '.join(others[:5])}{' ...' * (len(others) > 5)}"
    elif {prefix + SINGLE, prefix + INDEX} & present:
        remedy = "it is a whole model: give it with path or repo, without adapter and on"
    else:
        remedy = "is it the folder that PEFT's save_pretrained wrote?"
    raise InputError(f"{where}: holds no PEFT adapter ({ADAPTER_CONFIG}); {remedy}")


def _complete_shards(present: Collection[str]) -> list[str]:
    """Shards without an index, if every number of their count is there and no other count is."""
    found = {name: match for name in present if (match := SHARD.fullmatch(name))}
    totals = {int(match[2]) for match in found.values()}
    numbers = sorted(int(match[1]) for match in found.values())
    whole = len(totals) == 1 and numbers == list(range(1, totals.pop() + 1))
    return sorted(found) if whole else []


def _instead(present: Collection[str]) -> str:
    """What a place without a checkpoint's weights holds, and what to do about it."""
    pickles = sorted(name for name in present if PICKLES.match(name))
    others = sorted(name for name in present if name.endswith(".safetensors"))
    quantised = sorted(name for name in present if name.endswith(".gguf"))
    shards = [name for name in others if SHARD.fullmatch(name)]
    if shards:
        return (
            f"holds {shards[0]}, but neither {INDEX} nor all shards of one count; the checkpoint "
            "is incomplete: get the rest, or take another revision"
        )
    if others:
        return (
            f"holds {others[0]}, but neither {SINGLE} nor {INDEX}; if that is a checkpoint in the "
            f"naming of transformers, rename it to {SINGLE} in a local folder, else convert it"
        )
    if pickles:
        return (
            f"holds weights only as {pickles[0]}, a pickle that could run any code; safetensors "
            "are needed: take a revision that has them, or convert it yourself"
        )
    if quantised:
        return (
            f"holds weights only as {quantised[0]}, which are quantised (GGUF); take the "
            "checkpoint in safetensors that it was made from"
        )
    if "snapshots" in present:
        return (
            "is the top of a repository in a hub client's cache; give the folder "
            "snapshots/<commit> in it"
        )
    return f"holds neither {SINGLE} nor {INDEX}; is it a checkpoint folder?"


def read_index(path: Path, where: str) -> dict[str, str]:
    """The weight map of an index, checked: tensor name -> name of a file beside the index."""
    content = read_json(path)
    weight_map = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(weight_map, dict) or not weight_map:
        raise InputError(f"{where}: {INDEX} has no weight_map; not an index of safetensors shards")
    for tensor, file in weight_map.items():
        if (
            not isinstance(file, str)
            or not file.endswith(".safetensors")
            or Path(file).name != file
        ):
            raise InputError(
                f"{where}: {INDEX}: tensor {tensor} is said to be in {file!r}; a safetensors file "
                "in the same folder expected: this index is not to be trusted"
            )
    return weight_map
