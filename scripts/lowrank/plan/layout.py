"""Where everything lies: every path of results, said once.

A name can be a wildcard: rules ask for `layout.delta("{delta}").spectrum`, code that reads results
for `layout.delta("rl").spectrum`.

Programs that compute are given paths and do not import this: a path added here would run them again
(see lowrank.plan.digest). Each names the files it writes into its folder itself, and its rule fails
if that is not what is said here.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Checkpoint:
    """The folder of a model: a fetched one, or a variant."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "config.json"

    @property
    def manifest(self) -> Path:
        """Every file's hash, every tensor's dtype and shape; stands for the checkpoint."""
        return self.folder / "manifest.json"

    @property
    def index(self) -> Path:
        """Of a fetched model: which file each tensor lies in."""
        return self.folder / "model.safetensors.index.json"

    @property
    def tokenizer(self) -> Path:
        """Of a fetched model, a folder: what prompts are made with and end tokens are read from."""
        return self.folder / "tokenizer"

    @property
    def fidelity(self) -> Path:
        """Of a variant: how far what is stored lies from what was meant."""
        return self.folder / "fidelity.json"

    @property
    def adapter(self) -> Path:
        """Of a model that is an adapter on another: what it changes, a row a matrix."""
        return self.folder / "adapter.csv"

    def weights(self, name: str) -> Path:
        """One of the files that the weights lie in."""
        return self.folder / name


@dataclass(frozen=True)
class Delta:
    """The folder of a factored delta."""

    folder: Path

    @property
    def basis(self) -> Path:
        """A folder: all singular values, and what adapters of any rank are built from."""
        return self.folder / "basis"

    @property
    def manifest(self) -> Path:
        """The weights' hashes and the method; stands for the factorisation."""
        return self.folder / "manifest.json"

    @property
    def ledger(self) -> Path:
        """What became of every tensor of either model."""
        return self.folder / "ledger.parquet"

    @property
    def spectrum(self) -> Path:
        """A row a singular value."""
        return self.folder / "spectrum.parquet"

    @property
    def summary(self) -> Path:
        """A row a matrix."""
        return self.folder / "summary.parquet"

    @property
    def descriptions(self) -> Path:
        """A row a matrix and description: its bytes and its error."""
        return self.folder / "descriptions.parquet"

    @property
    def statistics(self) -> Path:
        """What the columns of spectrum and summary say."""
        return self.folder / "statistics.json"


@dataclass(frozen=True)
class Adapter:
    """The folder of a PEFT adapter."""

    folder: Path

    @property
    def weights(self) -> Path:
        return self.folder / "adapter_model.safetensors"

    @property
    def config(self) -> Path:
        return self.folder / "adapter_config.json"

    @property
    def files(self) -> list[Path]:
        """All that is read of it but its record."""
        return [self.weights, self.config]

    @property
    def record(self) -> Path:
        """Effective ranks and energy kept; written last, stands for the adapter."""
        return self.folder / "adapter.json"


@dataclass(frozen=True)
class Description:
    """The folder of a delta described otherwise than by its top directions."""

    folder: Path

    @property
    def packed(self) -> Path:
        return self.folder / "description.safetensors"

    @property
    def record(self) -> Path:
        """Its bytes; written last, stands for the description."""
        return self.folder / "description.json"


@dataclass(frozen=True)
class FetchedAdapter(Adapter):
    """The folder of somebody's PEFT adapter."""

    @property
    def record(self) -> Path:
        """Where it came from; written last, stands for the adapter."""
        return self.folder / "adapter_source.json"


@dataclass(frozen=True)
class Divergence:
    """The folder of what was read of the derivative's completions of a benchmark."""

    folder: Path

    @property
    def reference(self) -> Path:
        """What was read; stands for the derivative's part."""
        return self.folder / "reference" / "reference.json"

    @property
    def reference_files(self) -> list[Path]:
        """The passages that are read, and the derivative's configuration."""
        return [self.folder / "reference" / name for name in ("passages.parquet", "config.json")]

    @property
    def states(self) -> Path:
        """A folder: the derivative's last hidden states."""
        return self.folder / "reference" / "states"

    def tokens(self, model: str) -> Path:
        """A model against the derivative, a row a token."""
        return self.folder / f"{model}.parquet"

    def record(self, model: str) -> Path:
        """What a model's tokens were read with."""
        return self.folder / f"{model}.json"

    def summary(self, table: str) -> Path:
        """What the tokens of all models say."""
        return self.folder / "summary" / f"{table}.csv"

    @property
    def located(self) -> Path:
        """What the change of each matrix, module and layer does."""
        return self.folder / "located" / "locate.csv"

    @property
    def located_record(self) -> Path:
        """What that was computed from."""
        return self.folder / "located" / "locate.json"


@dataclass(frozen=True)
class Layout:
    """The results of one experiment; beside its folder lie those of others and the store."""

    folder: Path

    def model(self, model: str) -> Checkpoint:
        """A fetched model, or one that is an adapter on another."""
        return Checkpoint(self.folder / "models" / model)

    def fetched_adapter(self, model: str) -> FetchedAdapter:
        """The adapter that a model is made with."""
        return FetchedAdapter(self.folder / "peft" / model)

    def variant(self, variant: str) -> Checkpoint:
        """A model made from the base and a part of the delta."""
        return Checkpoint(self.folder / "variants" / variant)

    def delta(self, delta: str) -> Delta:
        return Delta(self.folder / "delta" / delta)

    def adapter(self, delta: str, adapter: str) -> Adapter:
        return Adapter(self.folder / "adapters" / delta / adapter)

    def description(self, delta: str, description: str) -> Description:
        return Description(self.folder / "descriptions" / delta / description)

    def problems(self, benchmark: str) -> Path:
        """A benchmark's problems and answers."""
        return self.folder / "benchmarks" / f"{benchmark}.parquet"

    def samples(self, benchmark: str, model: str, part: str) -> Path:
        """A part of a model's completions."""
        return self.folder / "samples" / benchmark / model / f"{part}.parquet"

    def provenance(self, benchmark: str, model: str, part: str) -> Path:
        """What a part of the completions was sampled from, with which versions."""
        return self.folder / "samples" / benchmark / model / f"{part}.json"

    def grades(self, benchmark: str, model: str) -> Path:
        """The answer of every completion, and whether it is right."""
        return self.folder / "grades" / benchmark / f"{model}.parquet"

    def divergence(self, benchmark: str) -> Divergence:
        return Divergence(self.folder / "divergence" / benchmark)

    def metrics(self, benchmark: str, model: str) -> Path:
        """Accuracy, pass@k and Maj@k of a model."""
        return self.folder / "metrics" / benchmark / f"{model}.csv"

    def comparisons(self, compared: str) -> Path:
        """The variants against base and derivative, on a benchmark or a pool of several."""
        return self.folder / "comparisons" / f"{compared}.csv"

    def comparisons_record(self, compared: str) -> Path:
        """What a table of comparisons was made from."""
        return self.folder / "comparisons" / f"{compared}.json"

    @property
    def report(self) -> Path:
        """The folder of the page, its figures and its tables."""
        return self.folder / "report"

    def asked(self, digest: str) -> Path:
        """The resolved experiment; the digest of its content is part of the name."""
        return self.folder / f"asked-{digest}.json"

    def log(self, job: str) -> Path:
        """What a job said."""
        return self.folder / "logs" / f"{job}.log"

    def timing(self, job: str) -> Path:
        """What a job used, as Snakemake measures it."""
        return self.folder / "timings" / f"{job}.tsv"

    @property
    def training(self) -> Path:
        """The embedded models made anew; beside the experiments, as they belong to none."""
        return self.folder.parent / "mini-training"


def completions_beside(samples: str | Path) -> Path:
    """The store of completions for a table of samples: one for all experiments, beside them."""
    return Path(samples).parents[4] / "completions"


def completions_of(results: Path) -> Path:
    """The store of completions below a folder of experiments' results."""
    return results / "completions"


def provenances(results: Path) -> list[Path]:
    """The provenance of every table of samples of every experiment below `results`."""
    return sorted(results.glob(str(Layout(Path("*")).provenance("*", "*", "*"))))
