"""What can be seen of checkpoints while planning, before anything that depends on them is removed.

Files of weights must be as long as their records say (Snakemake sees that a file is missing, not
that it was cut), and no local model may be asked for more positions than it was made for.
"""

from collections.abc import Iterator
from pathlib import Path

from lowrank.errors import InputError
from lowrank.files import read_json
from lowrank.models.architecture import most_positions
from lowrank.models.manifest import MANIFEST, own_manifest
from lowrank.places import locate
from lowrank.plan.experiment import Experiment


def check_lengths(experiment: Experiment) -> None:
    """InputError where a local model is asked for more positions than it was made for.

    Others are not known before they are fetched; sampling refuses them before its engine starts.
    """
    asked = experiment.sampling["max_model_len"]
    for name in experiment.subject["references"]:
        source = experiment.models[name]
        while "on" in source:
            source = experiment.models[source["on"]]
        path = locate(source["path"]) / "config.json" if "path" in source else None
        if path is None or not path.is_file():
            continue
        config = read_json(path)
        positions = most_positions(config) if isinstance(config, dict) else None
        if positions is not None and asked > positions:
            raise InputError(
                f"experiments/{experiment.name}.yaml: sampling.max_model_len is {asked}, but"
                f" models.{name} was made for {positions} positions"
                f" ({path}: max_position_embeddings); lower it"
            )


def check_sizes(experiment: Experiment) -> None:
    """InputError that names a file of another size than its record says, and what to do.

    A missing file is planned by Snakemake. Files in a delta's basis/ are checked here, because
    Snakemake sees that folder as one output. Links are left out: the content of local sources is
    compared anyway.
    """
    for path, record, said in _recorded(experiment):
        if path.is_symlink() or not path.exists():
            continue
        found = path.stat().st_size
        if found != said:
            raise InputError(
                f"{path}: {found} bytes, {record} says {said}; it was cut or changed since:"
                f" remove it and make it again alone: snakemake --cores 1 {path}"
            )
    for folder, name, said in _bases(experiment):
        path = folder / name
        found = path.stat().st_size if path.exists() else 0
        if found != said:
            raise InputError(
                f"{path}: {found} bytes, {MANIFEST} says {said}; it was cut, changed or removed"
                f" since: remove {path.parent}, and it is made again if anything needs it"
            )


def lost_weights(experiment: Experiment) -> str | None:
    """What to know of weights of fetched models that were there and are gone; None if none are.

    Snakemake fetches them as soon as a job needs them, and then takes all that was made from them
    for outdated, however equal they are: an input that is missing while it plans counts as new.
    """
    gone = [
        str(experiment.checkpoint(model).weights(name))
        for model, names in experiment.weight_names.items()
        if own_manifest(experiment.checkpoint(model).folder)
        for name in names
        if not experiment.checkpoint(model).weights(name).exists()
    ]
    if not gone:
        return None
    return (
        f"{gone[0]}{f' and {len(gone) - 1} more' * (len(gone) > 1)}: gone, though fetched before."
        " If a job needs it, all that was made from it runs again (no completion is sampled"
        f" again). To have it back alone, first: snakemake --cores 1 {' '.join(gone)}"
    )


def _recorded(experiment: Experiment) -> Iterator[tuple[Path, str, int]]:
    """(file, its record, bytes that the record says) of models, adapters and descriptions."""
    for model in [*experiment.models, *experiment.variants]:
        folder = experiment.checkpoint(model).folder
        said = (own_manifest(folder) or {"files": {}})["files"]
        for name, file in said.items():
            if name.endswith(".safetensors"):
                yield folder / name, MANIFEST, file["size"]
    for name in experiment.adapters:
        adapter = experiment.layout.adapter(experiment.subject["delta"], name)
        if adapter.record.is_file():
            yield adapter.weights, adapter.record.name, read_json(adapter.record)["weights"]["size"]
    for name in experiment.descriptions:
        found = experiment.layout.description(experiment.subject["delta"], name)
        if found.record.is_file():
            yield found.packed, found.record.name, read_json(found.record)["weights"]["size"]


def _bases(experiment: Experiment) -> Iterator[tuple[Path, str, int]]:
    """(folder of a delta, a file in it, bytes that its manifest says) where bases are there."""
    for name in experiment.deltas:
        delta = experiment.layout.delta(name)
        if delta.manifest.is_file() and delta.basis.is_dir():
            for matrix in read_json(delta.manifest)["matrices"].values():
                if "size" in matrix:  # not in those of older versions
                    yield delta.folder, matrix["file"], matrix["size"]
