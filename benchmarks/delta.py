"""Time and memory of the delta phase beside mergekit-extract-lora, on the same pair."""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

MERGEKIT = "mergekit==0.1.5"
EXCLUDED = "embed_tokens|lm_head|norm"


@dataclass
class Measured:
    """One run of one program."""

    wall: float  # s
    cpu: float  # s, user and system, all threads and children
    anonymous: float  # GiB, peak RssAnon of the process tree: pages of mapped files do not count
    output: float  # GB written
    error: float | None = None  # relative to the best approximation's own; see adapter_error


def anonymous_bytes(pid: int) -> int:
    """RssAnon of a process and its children, from /proc."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                total += 1024 * int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(
                anonymous_bytes(int(child)) for child in (task / "children").read_text().split()
            )
    except (FileNotFoundError, ProcessLookupError):
        pass
    return total


def measure(command: list[str], output: Path, threads: int) -> Measured:
    """Run a command into a fresh folder, sampling its memory every 10 ms."""
    shutil.rmtree(output, ignore_errors=True)
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    peak = 0
    start = time.perf_counter()
    with output.with_suffix(".log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    running = True

    def watch() -> None:
        nonlocal peak
        while running:
            peak = max(peak, anonymous_bytes(process.pid))
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    running = False
    watcher.join()
    if status:
        said = output.with_suffix(".log").read_text()[-3000:]
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{said}")
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return Measured(wall, usage.ru_utime + usage.ru_stime, peak / 2**30, size / 1e9)


def adapter_error(adapter: Path, delta: Path, pair: Path, names: list[str], rank: int) -> float:
    """Largest excess of ||D - B A||_F over the best rank-r error, relative, of some matrices."""
    from lowrank.delta.factor import difference, read_sigma
    from lowrank.models.checkpoint import open_checkpoint
    from lowrank.models.safetensors_file import read_header, read_tensor

    base, derivative = open_checkpoint(pair / "base"), open_checkpoint(pair / "derivative")
    entries, _ = read_header(adapter / "adapter_model.safetensors")
    worst = 0.0
    for name in names:
        key = "base_model.model." + name.removesuffix(".weight")
        A, B = (read_tensor(entries[f"{key}.lora_{side}.weight"]).double() for side in "AB")
        D = difference(base, derivative, name).double()
        best = float((read_sigma(delta, name)[rank:] ** 2).sum() ** 0.5)
        worst = max(worst, abs(float((D - B @ A).norm()) / best - 1))
    return worst


def spectrum_error(delta: Path, pair: Path, names: list[str]) -> tuple[float, float]:
    """Largest relative error of sigma against float64 gesdd: above 1e-3 of sigma_1, and of all."""
    import torch

    from lowrank.delta.factor import difference, read_sigma
    from lowrank.models.checkpoint import open_checkpoint

    base, derivative = open_checkpoint(pair / "base"), open_checkpoint(pair / "derivative")
    large = every = 0.0
    for name in names:
        exact = torch.linalg.svdvals(difference(base, derivative, name).double())
        error = (torch.from_numpy(read_sigma(delta, name)) / exact - 1).abs()
        large = max(large, float(error[exact > 1e-3 * exact[0]].max()))
        every = max(every, float(error.max()))
    return large, every


def reference(pair: Path, method: str, rank: int) -> None:
    """Factor every matrix with torch's gesdd or svd_lowrank and throw the result away."""
    import torch

    from lowrank.delta.factor import difference
    from lowrank.models.checkpoint import open_checkpoint

    base, derivative = open_checkpoint(pair / "base"), open_checkpoint(pair / "derivative")
    for name in base.anatomy.matrices():
        D = difference(base, derivative, name)
        if method == "gesdd":
            torch.linalg.svd(D, full_matrices=False)
        else:
            torch.svd_lowrank(D, q=min(rank + 8, min(D.shape)), niter=4)


def floor(pair: Path, threads: int) -> float:
    """Seconds that reading the bytes and forming the Gram matrices must take on this machine."""
    import torch

    from lowrank.models.checkpoint import open_checkpoint

    torch.set_num_threads(threads)
    models = [open_checkpoint(pair / side) for side in ("base", "derivative")]
    entries = [m.tensors[name] for m in models for name in m.anatomy.matrices()]
    largest = max(entries, key=lambda entry: entry.size)
    start = time.perf_counter()
    with largest.file.open("rb") as content:
        content.seek(largest.start)
        content.read(largest.size)
    rate = largest.size / (time.perf_counter() - start)
    X = torch.randn(2048, 2048, dtype=torch.float64)
    X @ X
    start = time.perf_counter()
    X @ X
    flops = 2 * 2048**3 / (time.perf_counter() - start)
    # A symmetric product of the shorter side s: s^2 times the longer side, in multiply-adds / 2.
    work = sum(min(e.shape) * e.parameters for e in entries[: len(entries) // 2])
    print(f"reading {rate / 1e9:.2f} GB/s, float64 GEMM {flops / 1e9:.0f} GFLOP/s")
    return sum(entry.size for entry in entries) / rate + work / flops


def environment_with_mergekit(given: str | None, folder: Path) -> Path:
    """The folder of mergekit's programs: an environment given, or one made for this run."""
    if given:
        return Path(given) / "bin"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    import torch

    command = [folder / "bin" / "python", "-m", "pip", "install", "-q", MERGEKIT]
    subprocess.run([*command, f"torch=={torch.__version__}"], check=True)
    return folder / "bin"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="""example:
  python benchmarks/delta.py --pair pair --threads 2 --rounds 3
  python benchmarks/delta.py --pair small --layers 2 --threads 2""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--pair", required=True, type=Path, help="folder of make_pair.py; made if it is not there"
    )
    parser.add_argument(
        "--layers", type=int, default=28, help="of a pair that is made (28, the full size: 11 GB)"
    )
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1, help="all programs in turn, so often")
    parser.add_argument("--mergekit", metavar="VENV", help="an environment that has mergekit")
    parser.add_argument("--without-mergekit", action="store_true")
    parser.add_argument(
        "--references",
        action="store_true",
        help="detailed statistics, gesdd, svd_lowrank too",
    )
    parser.add_argument("--check", type=int, default=3, help="matrices to check in float64")
    parser.add_argument("--reference", choices=("gesdd", "svd_lowrank"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    pair = args.pair
    if args.reference:
        import torch

        torch.set_num_threads(args.threads)
        reference(pair, args.reference, args.rank)
        return

    if not pair.exists():
        maker = [sys.executable, ROOT / "benchmarks/make_pair.py", "--layers", str(args.layers)]
        subprocess.run([*maker, "--output", pair], check=True)
    with tempfile.TemporaryDirectory(dir=pair) as scratch:
        out = Path(scratch)
        python, threads = sys.executable, ["--threads", str(args.threads)]
        sides = ["--base", pair / "base", "--derivative", pair / "derivative"]
        commands = {
            "delta_svd": [python, ROOT / "scripts/delta_svd.py", *sides, *threads,
                          "--output", out / "delta_svd"],
            "build_adapter": [python, ROOT / "scripts/build_adapter.py", *sides, *threads,
                              "--delta", out / "delta_svd", "--rank", str(args.rank),
                              "--output", out / "build_adapter"],
            "build_variant": [python, ROOT / "scripts/build_variant.py", *sides, *threads,
                              "--adapter", out / "build_adapter", "--other", "copy",
                              "--dtype", "bfloat16", "--tokenizer", pair / "base",
                              "--output", out / "build_variant"],
        }  # fmt: skip
        if not args.without_mergekit:
            programs = environment_with_mergekit(args.mergekit, out / "venv")
            commands["mergekit"] = [
                programs / "mergekit-extract-lora", "--model", pair / "derivative",
                "--base-model", pair / "base", "--out-path", out / "mergekit",
                "--max-rank", str(args.rank), "--exclude-regex", EXCLUDED,
            ]  # fmt: skip
        if args.references:
            commands["details"] = [python, ROOT / "scripts/delta_statistics.py", *sides, *threads,
                                   "--delta", out / "delta_svd", "--details"]  # fmt: skip
            for method in ("gesdd", "svd_lowrank"):
                commands[method] = [python, __file__, "--pair", pair, *threads,
                                    "--rank", str(args.rank), "--reference", method]  # fmt: skip
        rounds: dict[str, list[Measured]] = {name: [] for name in commands}
        for round_ in range(args.rounds):
            for name, command in commands.items():
                measured = measure([str(part) for part in command], out / name, args.threads)
                print(f"round {round_ + 1}: {name} {measured}", flush=True)
                rounds[name].append(measured)
            print_table(rounds)

        from lowrank.models.checkpoint import open_checkpoint

        names = open_checkpoint(pair / "base").anatomy.matrices()[: args.check]
        for name in ("build_adapter", "mergekit"):
            if name in rounds and names:
                found = adapter_error(out / name, out / "delta_svd", pair, names, args.rank)
                rounds[name][0].error = found
        if names:
            large, every = spectrum_error(out / "delta_svd", pair, names)
            print(f"sigma against float64 gesdd: {large:.1e} above 1e-3 sigma_1, {every:.1e} all")
        bound = floor(pair, args.threads)
        distance = min(row.wall for row in rounds["delta_svd"]) / bound
        print(f"floor (reading + Gram): {bound:.1f} s; delta_svd takes {distance:.1f} times that")
        print_table(rounds)


def print_table(rounds: dict[str, list[Measured]]) -> None:
    """A row a program. Times: the least; ratios to mergekit's (where it ran) of the same round:
    the least and the most; memory: the most.
    """
    unit = rounds.get("mergekit", rounds["delta_svd"])
    print(f"{'':14}   wall s   ratio          cpu s   ratio            GiB  GB out  error")
    for name, rows in rounds.items():
        line = f"{name:14}"
        for time_ in ("wall", "cpu"):
            ratios = [
                getattr(row, time_) / getattr(one, time_)
                for row, one in zip(rows, unit, strict=True)
            ]
            least = min(getattr(row, time_) for row in rows)
            line += f"{least:9.1f}   {min(ratios):.3f} to {max(ratios):.3f}"
        error = f"{rows[0].error:.1e}" if rows[0].error is not None else ""
        anonymous = max(row.anonymous for row in rows)
        print(f"{line}{anonymous:7.2f}{rows[0].output:8.2f}  {error}")


if __name__ == "__main__":
    main()
