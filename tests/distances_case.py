"""Made-up divergences of every model of report_case's experiment, as the phase writes them."""

import numpy as np
import pandas
from report_case import EXPERIMENT, PROBLEMS, SERVED

from lowrank.files import write_json, write_table
from lowrank.metrics.divergence_files import write_divergences

ASKED = EXPERIMENT | {"divergence": {"samples": 4, "tokens": 50}}
SCALES = {
    "mid": 1.0, "new": 0.0, "r2-copy": 0.1, "r8-copy": 0.001, "r2-keep": 0.2, "r8-keep": 0.102,
}  # fmt: skip
HOSTILE = "<script>alert(1)</script>\N{RIGHT-TO-LEFT OVERRIDE}"


def make_divergences(folder, scales=SCALES, tokens=30, problems=PROBLEMS, benchmark="sums", **more):
    """Tables of every model, as the phase writes them; more: what write_divergences takes."""
    where = folder / f"divergence/{benchmark}"
    draw = np.random.default_rng(0)
    rows = [
        (f"p{problem}", sample, position)
        for problem in range(problems)
        for sample in range(4)
        for position in range(tokens)
    ]
    table = pandas.DataFrame(rows, columns=["problem_id", "sample", "position"])
    table["token"] = table["position"] % 7
    table["text"] = [HOSTILE if token == 3 else f" t{token}" for token in table["token"]]
    table["logp_derivative"] = table["logp_model"] = -1.0
    kl = draw.gamma(0.3, size=len(table)) * (1 + 9 * (table["token"] == 3))
    for model, scale in scales.items():
        noisy = scale * kl * draw.uniform(0.8, 1.2, size=len(table))
        same = draw.random(len(table)) >= 0.05 * scale
        write_table(where / f"{model}.parquet", table.assign(kl=noisy, equal_top=same))
        served = {"sha256": SERVED, "adapter_sha256": None}
        write_json(where / f"{model}.json", {"reference": "r" * 64, "model": served})
    counts = {"problems": problems, "completions": 4 * problems, "tokens": len(table),
              "left_out": {"no ids are kept, and its text has other tokens": 2}}  # fmt: skip
    record = {"digest": "r" * 64, "asked": ASKED["divergence"], "counts": counts}
    write_json(where / "reference/reference.json", record)
    ladders = {"copy": {"r2-copy": 2, "r8-copy": 8}, "keep": {"r2-keep": 2, "r8-keep": 8}}
    pairs = [("r2-copy", "r2-keep"), ("r8-copy", "r8-keep")]
    paths = {model: where / f"{model}.parquet" for model in scales}
    write_divergences(paths, "mid", ladders, pairs, benchmark, where / "summary", **more)
    return where
