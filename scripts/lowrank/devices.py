"""GPUs of one's own: jobs side by side, of one user or of several, each compute on another.

A job leases the GPUs it needs from those it sees: it locks a file a GPU, named after its UUID (see
lowrank.locks), and has CUDA see these alone. The lease is the main process's and ends with it,
however it ends. An engine's workers that outlive a killed job hold no lease; the memory that they
still have is seen, and waited for.
"""

import hashlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lowrank import gpus, locks
from lowrank.errors import InputError
from lowrank.gpus import Gpu, Memory
from lowrank.machine import device_name

POLL = 0.5  # seconds between looks, up to twice that by chance
SAY_AGAIN = 60.0  # seconds until the reason to wait is said again
# Seconds for memory to come free that no lease holds: workers of a killed job take some to end.
PATIENCE = 120.0
GB = 1e9

_leased: list[Gpu] = []  # by this process


@dataclass(frozen=True)
class Need:
    """What must be free of each GPU's memory: so many bytes, and such a share of the whole."""

    bytes: int = 0
    share: float = 0.0

    def of(self, memory: Memory) -> int:
        return max(self.bytes, int(self.share * memory.total))


@dataclass
class Look:
    """What one look at the GPUs found."""

    taken: dict[Gpu, int | None] = field(default_factory=dict)  # with their locks
    busy: list[Gpu] = field(default_factory=list)  # locked by other processes
    full: dict[Gpu, Memory] = field(default_factory=dict)  # locked by nobody, yet without room


def take_device(device: str, count: int = 1, need: Need | None = None) -> str:
    """Make a device ready to be computed on, and return what it calls itself.

    "cuda": `count` GPUs are leased, see `lease`; call it before CUDA is touched. "cpu": nothing is
    done. InputError if there is no such device, or no room on it.
    """
    if device != "cuda":
        return device_name(device)
    leased = lease(count, need or Need())
    if count == 1 or not leased:
        return device_name(device)
    # The engine's workers start CUDA; this process, which starts them, must not.
    return f"{count} x {leased[0].model}"


def lease(count: int, need: Need) -> list[Gpu]:
    """Have `count` GPUs to oneself until the process ends, and make CUDA see these alone.

    Waits, and says for whom, until so many of those that are visible are free at once; none is
    held meanwhile. Jobs that see the same GPUs are served one after another. Where a scheduler gave
    no more than `count`, what it gave is taken as it is. Where nothing lists GPUs, [] is returned
    and CUDA is left to choose.
    Raises InputError if too few are visible, or if their memory is taken and does not come free.
    """
    there = gpus.visible()
    if not there and "CUDA_VISIBLE_DEVICES" not in os.environ:
        _say("neither nvidia-smi nor the driver lists a GPU; which one is used is left to CUDA")
        return []
    there = _enough(there, count)
    if _leased:
        return _leased
    given = gpus.scheduler() if len(there) == count else None
    if given:
        taken = _wait(there, count, need, given=True)
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(gpu.name for gpu in taken))
    else:
        with _turn(there):
            taken = _wait(there, count, need)
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.name for gpu in taken)
    _leased.extend(taken)
    _say(f"{_listed(taken)}: {f'given by the scheduler ({given})' if given else 'leased'}")
    return taken


def _enough(there: list[Gpu], count: int) -> list[Gpu]:
    """The GPUs of which `count` can be used together; InputError if there are fewer."""
    # Of slices (MIG), CUDA shows a process one alone.
    usable = there if count == 1 else [gpu for gpu in there if not gpu.is_slice]
    if len(usable) >= count:
        return usable
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    seen = _listed(there) if there else "none"
    seen += "" if asked is None else f", as CUDA_VISIBLE_DEVICES is {asked!r}"
    what = "GPU is needed" if count == 1 else "whole GPUs are needed"
    raise InputError(
        f"{count} {what}, and what can be seen is {seen}; run where there are so many, ask the"
        " scheduler for them, or do with fewer (tensor_parallel, device)"
    )


@contextmanager
def _turn(there: Sequence[Gpu]) -> Iterator[None]:
    """Be the one of all that see these GPUs who takes some next.

    So no two jobs each take half of what they need, and one that needs several is not overtaken
    for ever by those that need one.
    """
    names = ",".join(sorted(gpu.name for gpu in there))
    turn = f"turn-{hashlib.sha256(names.encode()).hexdigest()[:16]}"
    say = _now_and_then()
    while (file := locks.take(turn)) is None:
        say(f"waiting for a turn at the GPUs, after {locks.holder(turn)}")
        _pause()
    try:
        yield
    finally:
        locks.give(file)


def _wait(there: Sequence[Gpu], count: int, need: Need, given: bool = False) -> list[Gpu]:
    """`count` of these GPUs, locked and with room; given: all of them, whoever has locked them."""
    say = _now_and_then()
    crowded = None  # since when waiting for leases to end would not help
    while True:
        look = _look(there, count, need, given)
        if len(look.taken) == count:
            return list(look.taken)
        reasons = [f"{gpu} is held by {locks.holder(gpu.name)}" for gpu in look.busy]
        reasons += [_crowded(gpu, memory, need) for gpu, memory in look.full.items()]
        if len(look.taken) + len(look.busy) >= count:
            crowded = None
        elif crowded is None:
            crowded = time.monotonic()
        fits = sum(need.of(memory) <= memory.total for memory in look.full.values())
        hopeless = len(look.taken) + len(look.busy) + fits < count
        if crowded is not None and (hopeless or time.monotonic() - crowded > PATIENCE):
            raise InputError(
                f"{'; '.join(reasons)}; free it, choose another (CUDA_VISIBLE_DEVICES), or need"
                " less of it (gpu_memory, tensor_parallel)"
            )
        say(f"waiting for {count} of {len(there)} GPUs: {'; '.join(reasons)}")
        _pause()


def _look(there: Sequence[Gpu], count: int, need: Need, given: bool) -> Look:
    """Lock `count` GPUs with room, or none at all."""
    look, memory = Look(), None
    for gpu in there:
        if len(look.taken) == count:
            return look
        file = locks.take(gpu.name)
        if file is None and not given:
            look.busy.append(gpu)
            continue
        if memory is None:
            memory = gpus.memory() if need != Need() else {}
        if gpu.name in memory and memory[gpu.name].free < need.of(memory[gpu.name]):
            look.full[gpu] = memory[gpu.name]
            if file is not None:
                locks.give(file)
        else:
            look.taken[gpu] = file
    if len(look.taken) < count:
        for file in look.taken.values():
            if file is not None:
                locks.give(file)
    return look


def _crowded(gpu: Gpu, memory: Memory, need: Need) -> str:
    by = [locks.described(process) for process in gpus.users(gpu)]
    return (
        f"{gpu} has {memory.free / GB:.1f} of {memory.total / GB:.1f} GB free and"
        f" {need.of(memory) / GB:.1f} GB are needed"
        + (f", used by {' and '.join(by)}" if by else "")
    )


def _listed(some: Sequence[Gpu]) -> str:
    return ", ".join(map(str, some))


def _pause() -> None:
    # By chance, so that jobs which see different GPUs do not look in step for ever.
    time.sleep(POLL * random.uniform(1, 2))


def _now_and_then() -> Callable[[str], None]:
    """What says a text on stderr, unless it said one a short while ago."""
    last = float("-inf")

    def say(text: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SAY_AGAIN:
            last = time.monotonic()
            _say(text)

    return say


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
