"""What a checked configuration holds: the types of its keys, and of the experiment it describes.

workflow/schemas say what each key means and which values it takes, and are where the sentences of
errors come from; these types have the schemas' keys (tests/plan/test_settings.py) and only tell the
code, and who reads it, what is there. They are no pydantic models because pydantic's errors name
neither the file nor the known keys nor what a key is for: every sentence would have to be built
again from its error codes, beside a second list of constraints to keep equal to the schemas.
"""

from typing import NotRequired, TypedDict

# --- config.yaml ------------------------------------------------------------------------------


class Reading(TypedDict):
    """How much of the derivative's text is read."""

    samples: int
    tokens: int


class Questions(TypedDict):
    """Of config.yaml, all that changes results."""

    ranks: list[int]
    further_ranks: NotRequired[list[int]]
    other: list[str]
    serve_dtype: list[str]
    serve_as: list[str]
    controls: list[str | dict[str, list[int]]]
    only_read: list[str | dict[str, list[int]]]
    details: bool
    samples: int
    maj_k: list[int]
    repeats: int
    seed: int
    resample: str
    divergence: Reading | None
    locate: Reading | None
    margin: float


class Config(Questions):
    """config.yaml."""

    experiment: str
    keep_variants: bool
    results: str
    completions: NotRequired[str | None]


# --- experiments/<name>.yaml ------------------------------------------------------------------


class Place(TypedDict):
    """A path, or a repository at a commit."""

    path: NotRequired[str]
    repo: NotRequired[str]
    revision: NotRequired[str]


class AdapterPlace(Place):
    """Where a PEFT adapter comes from."""

    subfolder: NotRequired[str]


class Source(Place):
    """Where a model or a benchmark comes from, and what the report calls it."""

    label: str


class Model(Source):
    """A checkpoint to fetch, or an adapter to merge into another model."""

    shards: NotRequired[int | list[str]]
    adapter: NotRequired[AdapterPlace]
    on: NotRequired[str]


class Benchmark(Source):
    """A problem set to fetch."""

    file: NotRequired[str]
    problem_column: NotRequired[str]
    answer_column: NotRequired[str]
    id_column: NotRequired[str]
    problems: NotRequired[int]
    answer_type: str


class Delta(TypedDict):
    """A pair of models whose difference is factored."""

    base: str
    derivative: str
    leave_out: NotRequired[list[str]]


class Factoring(TypedDict):
    """What the jobs that make deltas, adapters and variants may use."""

    device: str
    threads: int
    mem_mb: int


class Pool(TypedDict):
    """Several benchmarks judged as one."""

    label: str
    benchmarks: list[str]


class Grading(TypedDict):
    """How the answer of a completion is found."""

    reasoning_end: str | None
    rule: str


class Engine(TypedDict, total=False):
    """Further arguments of vLLM's engine; see plan.engine_settings."""

    max_num_batched_tokens: int
    enable_chunked_prefill: bool
    enable_prefix_caching: bool
    enforce_eager: bool
    async_scheduling: bool
    block_size: int
    cpu_offload_gb: float
    kv_cache_memory_bytes: int
    disable_custom_all_reduce: bool


class OfModel(TypedDict):
    """The sampling settings that one model may have for itself."""

    compute_dtype: NotRequired[str | None]
    max_num_seqs: NotRequired[int]
    gpu_memory: NotRequired[float]
    tensor_parallel: NotRequired[int]
    quantization: NotRequired[str | None]
    engine: NotRequired[Engine]


class Completing(TypedDict):
    """Of the sampling settings, what completions depend on, and the parts they are cut into."""

    device: str
    dtype: str
    compute_dtype: NotRequired[str | None]
    quantization: NotRequired[str | None]
    batch_invariant: NotRequired[bool]
    models: NotRequired[dict[str, OfModel]]
    temperature: float
    top_p: float
    max_tokens: int
    max_model_len: int
    parts: NotRequired[int]
    system: str
    user: str
    think_prefix: str


class Sampling(Completing):
    """All sampling settings: also what changes speed and memory alone, and what a job may use."""

    max_num_seqs: int
    kv_cache_gib: NotRequired[float]
    gpu_memory: NotRequired[float]
    tensor_parallel: NotRequired[int]
    engine: NotRequired[Engine]
    threads: int
    mem_mb: int
    runtime: int


class Subjects(TypedDict):
    """Of an experiment's file, what results depend on but for the sampling settings."""

    title: str
    needs: NotRequired[str]
    models: dict[str, Model]
    deltas: dict[str, Delta]
    delta: str
    references: list[str]
    tokenizer: str
    benchmarks: dict[str, Benchmark]
    pools: NotRequired[dict[str, Pool]]
    grading: Grading
    published: NotRequired[str | None]


class Subject(Subjects):
    """experiments/<name>.yaml."""

    questions: NotRequired[dict[str, object]]  # answers to keys of config.yaml
    factoring: Factoring
    sampling: Sampling


# --- results/<name>/experiment-<digest>.json --------------------------------------------------


class VariantForm(TypedDict):
    """A variant as the described experiment has it; see plan.experiment.Variant."""

    kind: str
    rank: int
    other: str
    dtype: str
    serve_as: str
    adapter: str | None


class Described(Questions, Subjects):
    """All that the results depend on, resolved: what the report reads of an experiment."""

    name: str
    base: str
    derivative: str
    variants: dict[str, VariantForm]
    descriptions: list[str]
    sampling: Completing
