"""Whether files of weights are as long as what was written down when they were made.

Snakemake sees that a file is missing, not that it was cut. Looked at while planning, before
anything that depends on it is removed.
"""

from collections.abc import Iterator
from pathlib import Path

from lowrank.errors import InputError
from lowrank.experiment import Experiment, adapter_weights
from lowrank.files import read_json
from lowrank.manifest import MANIFEST, own_manifest


def check_sizes(experiment: Experiment) -> None:
    """InputError that names a file of another size than its record says, and what to do.

    Missing files are Snakemake's to plan; what is linked is the source's, whose content is looked
    at anyway.
    """
    for path, record, said in _recorded(experiment):
        if not path.is_file() or path.is_symlink() or path.stat().st_size == said:
            continue
        raise InputError(
            f"{path}: {path.stat().st_size} bytes, {record} says {said}; it was cut or changed"
            " since: remove it, and it is made again if anything needs it"
        )


def _recorded(experiment: Experiment) -> Iterator[tuple[Path, str, int]]:
    """(file, its record, bytes that the record says) of all weights that were made."""
    for model in [*experiment.models, *experiment.variants]:
        folder = Path(experiment.model_folder(model))
        said = (own_manifest(folder) or {"files": {}})["files"]
        for name, file in said.items():
            if name.endswith(".safetensors"):
                yield folder / name, MANIFEST, file["size"]
    records = dict.fromkeys(r for v in experiment.variants for r in experiment.adapter(v))
    for record in filter(lambda record: Path(record).is_file(), records):
        (weights,) = adapter_weights([record])
        yield Path(weights), Path(record).name, read_json(record)["weights"]["size"]
