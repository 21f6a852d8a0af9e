"""What a sampling job asks for: every completion of its tables, and all that determines it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowrank.claims import check_output
from lowrank.errors import InputError
from lowrank.files import read_json, read_table
from lowrank.plan.served import check_compute_dtype
from lowrank.sampling import prompts
from lowrank.sampling.engine import Serving
from lowrank.sampling.feeding import Request
from lowrank.sampling.seeds import request_seed
from lowrank.sampling.store import completion_key


@dataclass(frozen=True)
class Target:
    """A benchmark of a job. problems: table with problem_id and problem; output: .parquet."""

    benchmark: str
    problems: Path
    output: Path


@dataclass(frozen=True)
class Job:
    """One part of a model's completions, of one benchmark or several.

    Of the samples 0 .. samples - 1 of every problem it makes those whose number leaves part - 1
    when divided by parts. store: folder of the completions that are kept.
    resample: whether kept completions are made anew, see `sampling.take`.
    system, user, think: see `prompts.prompt_text`.
    """

    serving: Serving
    tokenizer: Path
    targets: tuple[Target, ...]
    store: Path
    model_name: str
    samples: int
    part: int
    parts: int
    resample: str
    seed: int
    temperature: float
    top_p: float
    max_tokens: int
    system: str
    user: str
    think: str

    @property
    def numbers(self) -> range:
        """The sample numbers of this part."""
        return range(self.part - 1, self.samples, self.parts)


@dataclass(frozen=True)
class Prompt:
    """A problem as the engine sees it."""

    problem_id: str
    ids: tuple[int, ...]
    max_tokens: int  # what may be generated: the job's, or less where the context ends sooner


@dataclass(frozen=True)
class Asked:
    """One completion that a table needs; key: its name in the store."""

    key: str
    benchmark: str
    problem_id: str
    sample: int
    request: Request


def check_numbers(job: Job) -> None:
    """InputError for a number outside its range, named as the command line names it."""
    serving = job.serving
    wanted = {
        "--samples": (job.samples, job.samples >= 1, "1 or more"),
        "--parts": (job.parts, 1 <= job.parts <= job.samples, f"1 to {job.samples}, the samples"),
        "--part": (job.part, 1 <= job.part <= job.parts, f"1 to {job.parts}, the parts"),
        # Below 0.01 vLLM takes 0.01, whatever was asked.
        "--temperature": (
            job.temperature,
            job.temperature == 0 or 0.01 <= job.temperature <= 2,
            "0 (greedy), or 0.01 to 2",
        ),
        "--top-p": (job.top_p, 0 < job.top_p <= 1, "above 0, at most 1"),
        "--max-tokens": (job.max_tokens, job.max_tokens >= 1, "1 or more"),
        "--max-model-len": (serving.max_model_len, serving.max_model_len >= 2, "2 or more"),
        "--max-num-seqs": (serving.max_num_seqs, serving.max_num_seqs >= 1, "1 or more"),
        "--threads": (serving.threads, serving.threads >= 1, "1 or more"),
        "--tensor-parallel": (serving.tensor_parallel, serving.tensor_parallel >= 1, "1 or more"),
        "--gpu-memory": (serving.gpu_memory, 0 < serving.gpu_memory <= 1, "above 0, at most 1"),
    }
    for flag, (value, right, expected) in wanted.items():
        if not right:
            raise InputError(f"{flag} is {value}; {expected} was expected")
    check_compute_dtype(serving.dtype, serving.compute_dtype, "--compute-dtype")
    of_gpus = {
        "--tensor-parallel": serving.tensor_parallel > 1,
        "--quantization": serving.quantization,
        "--batch-invariant": serving.batch_invariant,
        "--engine": serving.more,
    }
    for flag in (flag for flag, given in of_gpus.items() if given and serving.device == "cpu"):
        raise InputError(f"{flag} is of GPUs, and --device is cpu; leave it out")
    if serving.quantization and not serving.casts_once:
        raise InputError(
            "--quantization makes weights of those that are served; leave --compute-dtype out"
        )
    for target in job.targets:
        if target.output.suffix != ".parquet":
            raise InputError(
                f"--benchmark {target.benchmark}: the table is {target.output}; a name that ends"
                " in .parquet was expected"
            )
        inputs = (serving.model, serving.adapter, job.tokenizer, target.problems)
        for suffix in (".parquet", ".json"):
            check_output(target.output.with_suffix(suffix), inputs)
    names = [target.benchmark for target in job.targets]
    if len(set(names)) < len(names):
        raise InputError(f"--benchmark names {names} hold one twice; each once was expected")
    if "\\n" in job.think:
        raise InputError(
            f"--think-prefix {job.think!r} holds a backslash and an n; give a real line break"
            " (in bash: $'<think>\\n')"
        )


def read_problems(path: Path) -> list[tuple[str, str]]:
    """(problem_id, problem) in the table's order; InputError for a gap, a double or no rows."""
    table = read_table(path)
    for column in ("problem_id", "problem"):
        if column not in table:
            raise InputError(
                f"{path}: no column {column!r}, found {', '.join(map(str, table.columns))};"
                " make it with fetch_benchmark.py"
            )
        if table[column].isna().any():
            row = int(table[column].isna().to_numpy().argmax())
            raise InputError(f"{path}: {column} is missing in row {row + 1} of {len(table)}")
    if table.empty:
        raise InputError(f"{path}: no problems in it; at least one was expected")
    ids, texts = table["problem_id"].astype(str), table["problem"]
    if ids.duplicated().any():
        twice = ", ".join(sorted(set(ids[ids.duplicated()]))[:5])
        raise InputError(f"{path}: problem_id occurs more than once: {twice}; ids must be unique")
    for name, text in zip(ids, texts, strict=True):
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}: problem {name} is {text!r}; a text was expected")
    return list(zip(ids, texts, strict=True))


def make_prompts(job: Job, target: Target, tokenizer: Any, config: dict[str, Any]) -> list[Prompt]:
    """A benchmark's prompts; InputError if the model has no room or no token for one."""
    made = []
    for problem_id, problem in read_problems(target.problems):
        where = f"{target.problems}: problem {problem_id}"
        try:
            ids = prompts.prompt_ids(tokenizer, job.system, job.user, job.think, problem)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        longest = job.serving.max_model_len - 1
        if len(ids) > longest:
            raise InputError(
                f"{where}: the prompt is {len(ids)} tokens, at most {longest} leave room for an"
                f" answer in --max-model-len {longest + 1}; raise it or take the problem out"
            )
        size = config.get("vocab_size")
        if size is not None and max(ids) >= size:
            raise InputError(
                f"{job.serving.model}/config.json: vocab_size is {size}, but problem {problem_id}"
                f" has token {max(ids)} under {job.tokenizer}; use the tokenizer the model was"
                " trained with"
            )
        room = job.serving.max_model_len - len(ids)
        made.append(Prompt(problem_id, tuple(ids), min(job.max_tokens, room)))
    return made


def asked(job: Job, target: Target, made: Iterable[Prompt], ends: list[int]) -> Iterator[Asked]:
    """Every completion of a benchmark's table, by problem and sample."""
    for prompt in made:
        prompt_digest = prompts.ids_digest(prompt.ids)
        for sample in job.numbers:
            seed = request_seed(
                job.seed, target.benchmark, job.model_name, prompt.problem_id, sample
            )
            key = completion_key(prompt_digest, seed, prompt.max_tokens)
            request = Request(
                name=key,
                prompt=prompt.ids,
                seed=seed,
                max_tokens=prompt.max_tokens,
                temperature=job.temperature,
                top_p=job.top_p,
                end_tokens=tuple(ends),
            )
            yield Asked(key, target.benchmark, prompt.problem_id, sample, request)


def longest_first(waiting: list[Asked], targets: Iterable[Target]) -> list[Asked]:
    """Requests in the order to make them: those expected to take longest first.

    A long completion that starts last runs alone while most of the machine is idle. How long a
    problem's completions get is estimated from other models' tables of the same benchmark; a
    problem without any comes first. The order changes the speed only.
    """
    expected: dict[tuple[str, str], float] = {}
    for target in targets:
        for path in sorted(target.output.parent.parent.glob("*/*.json")):
            try:
                said = read_json(path)["mean_tokens"]
                tokens = {str(problem): float(mean) for problem, mean in said.items()}
            except (InputError, OSError, TypeError, KeyError, ValueError, AttributeError):
                continue  # only a hint
            for problem, mean in tokens.items():
                place = (target.benchmark, problem)
                expected[place] = max(expected.get(place, 0.0), mean)
    return sorted(
        waiting, key=lambda one: -expected.get((one.benchmark, one.problem_id), float("inf"))
    )
