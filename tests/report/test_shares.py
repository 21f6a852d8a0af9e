"""What the report says of a delta's shares follows from the ledger; experts stay readable."""

import pandas as pd
from report_case import EXPERIMENT, results_of

from lowrank.files import read_table, write_table
from lowrank.report import experts, figures, shares
from lowrank.report.evidence import gather, read_experiment


def evidence(folder, change=lambda ledger: None):
    """The toy experiment, its ledgers changed."""
    file = results_of(folder)
    for delta in EXPERIMENT["deltas"]:
        path = folder / f"delta/{delta}/ledger.parquet"
        ledger = read_table(path)
        change(ledger)
        write_table(path, ledger)
    return gather(read_experiment(file), folder)


def cells(found, place: int = 0) -> list[str]:
    return [cell["text"] for cell in shares.shares_table(found)["rows"][place]["cells"]]


def test_all_that_was_factored_is_said_to_be(tmp_path):
    found = evidence(tmp_path)
    assert shares.factored(found, "rl") == "Every matrix of the decoder's 2 layers"
    assert shares.others(found) == "embeddings and norms"
    assert cells(found)[1:] == ["6", "60%", "0.0%", "40%", "0.0%", "90%", "0.0%", "10%", "0.0%"]


def test_what_was_not_factored_is_named(tmp_path):
    def change(ledger):
        ledger.loc[0, "fate"] = shares.LEFT_OUT
        ledger.loc[len(ledger) - 1, "what"] = "router"

    found = evidence(tmp_path, change)
    said = shares.factored(found, "rl")
    assert said == "5 of 6: every matrix of the decoder's 2 layers that leave_out does not name"
    assert shares.others(found) == "embeddings and routers"
    text = shares.not_factored(found)[0]
    assert "60%" not in text
    assert "75% of the squared change" in text
    assert "embeddings (1, 5.0%) and routers (1, 5.0%)" in text
    assert "Left out by name: 1 tensors (15%)" in text
    assert cells(found)[-1] == "15%"


def spectrum_of_experts(count: int) -> pd.DataFrame:
    return pd.DataFrame(
        {"tensor": f"layers.{layer}.mlp.experts.{i}.w1", "layer": layer,
         "module": f"mlp.experts.{i}.w1", "index": index, "sigma": 1.0 / (1 + index)}
        for layer in range(2) for i in range(count) for index in range(3)
    )  # fmt: skip


def test_of_many_experts_a_few_are_drawn():
    for count, shown in ((3, 3), (8, 8), (64, experts.SHOWN)):
        table = experts.by_type(spectrum_of_experts(count))
        assert set(table.module) == {"mlp.experts.w1"}
        chosen = experts.few(table)
        assert (chosen.groupby("layer").tensor.nunique() == shown).all()
        assert (chosen.groupby("tensor").size() == 3).all()
        drawn = sorted({int(name.split(".")[4]) for name in chosen.tensor})
        assert drawn == list(range(0, count, max(1, count // shown)))  # evenly, from the first on
    one = spectrum_of_experts(64)
    both = pd.concat([one, one.replace("w1", "w2", regex=True)])
    types = experts.few(experts.by_type(both)).groupby(["layer", "module"])
    assert types.tensor.nunique().tolist() == [experts.SHOWN] * 4
    figure = figures.spectra(spectrum_of_experts(64))
    assert len(figure.axes[1].lines) == 2 * experts.SHOWN
