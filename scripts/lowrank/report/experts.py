"""Tables of a delta made fit to look at where a layer has many experts."""

import pandas as pd

from lowrank.models.architecture import module_type

SHOWN = 8  # matrices of a type in a layer that are drawn or listed one by one


def by_type(table: pd.DataFrame) -> pd.DataFrame:
    """A table with column module, in which all experts of a layer go by one name."""
    types = {module: module_type(module) for module in table["module"].unique()}
    return table.assign(module=table["module"].map(types))


def few(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of at most SHOWN matrices of a type in a layer, evenly chosen; all where less.

    table: tensor, layer, module (as by_type gives it), in any number of rows a matrix.
    """
    places = table[["tensor", "layer", "module"]].drop_duplicates("tensor")
    same = places.groupby(["layer", "module"])["tensor"]
    number, count = same.cumcount(), same.transform("size")
    # The first of each of SHOWN equal parts.
    part = number * SHOWN // count
    chosen = (count <= SHOWN) | (part != (number - 1) * SHOWN // count)
    return table[table["tensor"].isin(places.loc[chosen, "tensor"])]
