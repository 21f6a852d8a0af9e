"""What a model's source says of its files before anything is fetched."""

from lowrank.errors import InputError
from lowrank.places import locate
from lowrank.plan.checkpoint_files import SINGLE, weight_files
from lowrank.plan.settings import Model


def weight_names_of(source: Model) -> list[str]:
    """Names of the weight files of a model: those in its folder; on a hub, as `shards` says.

    What lies on a hub is not asked for while planning, which works without a network. An adapter's
    model, which names neither folder nor shards, is merged into one file.
    """
    if "path" in source:
        folder = locate(source["path"])
        if not folder.is_dir():
            raise InputError(f"{source['path']}: is no folder; a checkpoint's folder expected")
        return weight_files(folder)
    shards = source.get("shards", 1)
    if isinstance(shards, list):
        return shards
    if shards == 1:
        return [SINGLE]
    return [f"model-{i:05d}-of-{shards:05d}.safetensors" for i in range(1, shards + 1)]
