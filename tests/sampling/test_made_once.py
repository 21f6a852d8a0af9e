"""A completion is made once: what is kept is taken, whatever makes a job run again."""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path

import pandas
import pytest
from sampling_case import (
    PROBLEMS,
    SCRIPTS,
    counting,
    job,
    kept,
    kill_at,
    make_folder,
    no_engine,
    pretend,
    run,
)

from lowrank.ending import Ended, listening
from lowrank.errors import InputError
from lowrank.models.manifest import FORMAT
from lowrank.sampling import completions, engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("job"))


@pytest.fixture(autouse=True)
def _versions(monkeypatch):
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "a version"})


def merged(*tables: pandas.DataFrame) -> pandas.DataFrame:
    """Parts of a pool as one table, in the order of a whole pool."""
    order = {problem: place for place, problem in enumerate(PROBLEMS)}
    rows = pandas.concat(tables).sort_values(
        ["problem_id", "sample"], key=lambda c: c.map(order) if c.name == "problem_id" else c
    )
    return rows.reset_index(drop=True)


def test_parts_together_are_the_pool(folder):
    whole = run(folder, "whole.parquet", "--samples", "5")
    parts = [
        run(folder, f"part{part}.parquet", "--samples", "5", "--parts", "3", "--part", str(part))
        for part in (1, 2, 3)
    ]
    assert [len(part) for part in parts] == [6, 6, 3]
    pandas.testing.assert_frame_equal(whole, merged(*parts))


def stored(folder, name, *more):
    """The command line's flags for a job that shares the store called `name`."""
    return ("--store", str(folder / f"{name}.store"), *more)


def test_nothing_is_sampled_twice_however_the_pool_is_cut_and_grown(folder):
    """Smaller, larger, in parts and back: only what was never made is made."""
    engines = []

    def start(serving, sequences):
        engines.append(sequences)
        return pretend(serving, sequences)

    def again(output, *more):
        before = len(engines)
        run(folder, output, *stored(folder, "grown", *more), start=start)
        return engines[before:]

    assert again("grown.parquet", "--samples", "4") == [12]
    assert again("smaller.parquet", "--samples", "2") == []
    assert again("larger.parquet", "--samples", "6") == [6]
    assert again("half.parquet", "--samples", "6", "--parts", "2", "--part", "2") == []
    assert again("largest.parquet", "--samples", "7", "--parts", "3", "--part", "1") == [3]
    assert again("grown.parquet", "--samples", "4") == []
    (folder / "grown.parquet").rename(folder / "kept.parquet")
    assert again("grown.parquet", "--samples", "4") == []
    assert (folder / "grown.parquet").read_bytes() == (folder / "kept.parquet").read_bytes()
    fresh = run(folder, "fresh.parquet", "--samples", "6")
    pandas.testing.assert_frame_equal(fresh, pandas.read_parquet(folder / "larger.parquet"))


def test_a_benchmark_more_takes_the_others_from_the_store(folder):
    rows = {"problem_id": ["p2", "q"], "problem": ["9 - 4", "8 * 8"]}
    pandas.DataFrame(rows).to_parquet(folder / "other.parquet")
    run(folder, "one.parquet", *stored(folder, "two"))
    both = (
        *("--benchmark", "b", str(folder / "problems.parquet"), str(folder / "b.parquet")),
        *("--benchmark", "c", str(folder / "other.parquet"), str(folder / "c.parquet")),
    )
    made = []
    completions.sample(job(folder, "b.parquet", *stored(folder, "two", *both)), counting(made))
    assert len(made) == 2 * 4
    assert (folder / "b.parquet").read_bytes() == (folder / "one.parquet").read_bytes()
    said = json.loads((folder / "c.json").read_text())
    assert said["benchmark"] == {"name": "c", "problems": 2}


def test_an_interrupted_job_makes_only_what_is_missing(folder):
    whole = run(folder, "straight.parquet")
    made = []

    def breaks(serving, sequences):
        def complete(requests):
            for number, finished in enumerate(pretend(serving, sequences, made)(requests)):
                if number == 11:
                    raise KeyboardInterrupt
                yield finished

        return complete

    with pytest.raises(KeyboardInterrupt):
        run(folder, "broken.parquet", start=breaks)
    assert not (folder / "broken.parquet").exists()
    finished = set(made[:5])
    assert {one.key for one in kept(folder / "broken.parquet")} == finished
    more = []
    # neither the batch size nor the threads make another pool
    batch = ("--max-num-seqs", "3", "--threads", "2")
    run(folder, "broken.parquet", *batch, start=counting(more))
    assert finished.isdisjoint(more)
    assert len(more) == len(whole) - len(finished)
    assert (folder / "broken.parquet").read_bytes() == (folder / "straight.parquet").read_bytes()
    said = json.loads((folder / "broken.json").read_text())
    assert sum(said["devices"].values()) == len(whole)


def test_with_nothing_missing_no_engine_starts_and_no_weights_are_needed(folder, tmp_path):
    here = make_folder(tmp_path / "job")
    manifest = {"format": FORMAT, "files": {}}
    for name in ("config.json", "model.safetensors"):
        content = (here / "model" / name).read_bytes()
        manifest["files"][name] = {
            "size": len(content), "sha256": hashlib.sha256(content).hexdigest()
        }  # fmt: skip
    (here / "model/manifest.json").write_text(json.dumps(manifest))
    run(here, "table.parquet")
    first = (here / "table.parquet").read_bytes()
    (here / "table.parquet").unlink()
    (here / "model/model.safetensors").unlink()
    run(here, "table.parquet", start=no_engine)
    assert (here / "table.parquet").read_bytes() == first


def test_a_full_disk_at_the_table_costs_no_completion(folder, monkeypatch):
    def full(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(completions, "write_table", full)
        with pytest.raises(OSError, match="disk full"):
            run(folder, "full.parquet")
    run(folder, "full.parquet", start=no_engine)


def test_another_setting_and_back_loses_nothing(folder):
    run(folder, "back.parquet")
    first = (folder / "back.parquet").read_bytes()
    made = []
    run(folder, "back.parquet", "--temperature", "0.5", start=counting(made))
    assert len(made) == 12
    run(folder, "back.parquet", start=no_engine)
    assert (folder / "back.parquet").read_bytes() == first
    run(folder, "back.parquet", "--temperature", "0.5", start=no_engine)


def test_what_makes_kept_completions_others_is_said(folder, capsys):
    run(folder, "said.parquet")
    run(folder, "said.parquet", "--temperature", "0.9", "--top-p", "0.5")
    capsys.readouterr()
    run(folder, "said.parquet", "--temperature", "0.7", "--top-p", "0.5")
    said = capsys.readouterr().err
    assert "made otherwise (sampling.temperature: 0.9 there, 0.7 here): it stays" in said
    run(folder, "said.parquet", "--temperature", "0.7", "--top-p", "0.5")
    assert "made otherwise" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("resample", "sampled"), [("when-versions-change", 12), ("never", 0), ("always", 12)]
)
def test_what_another_version_of_the_engine_means_is_the_users_to_say(
    folder, tmp_path, monkeypatch, capsys, resample, sampled
):
    output = str(tmp_path / "v.parquet")
    table = ("--benchmark", "b", str(folder / "problems.parquet"), output)
    run_here = (folder, output, "--store", str(tmp_path / "store"), *table)
    run(*run_here)
    first = Path(output).read_bytes()
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "another version"})
    with pytest.raises(InputError, match="12 completions were made by vllm a version; here is"):
        run(*run_here, start=no_engine)
    assert Path(output).read_bytes() == first
    made = []
    run(*run_here, "--resample", resample, start=counting(made))
    assert len(made) == sampled
    said = json.loads(Path(output).with_suffix(".json").read_text())
    version = "another version" if sampled else "a version"
    assert said["engine"]["versions"] == {"vllm": version}
    # Back under the first version, its completions are still there.
    monkeypatch.setattr(engine, "versions", lambda: {"vllm": "a version"})
    run(*run_here, start=no_engine)


def test_always_takes_nothing_even_of_the_same_version(folder):
    run(folder, "always.parquet")
    made = []
    run(folder, "always.parquet", "--resample", "always", start=counting(made))
    assert len(made) == 12


def test_text_of_another_tokenizer_is_written_anew(folder, tmp_path):
    here = make_folder(tmp_path / "job")
    table = run(here, "t.parquet")
    path = here / "tokenizer/tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()), indent=1))  # only other bytes
    again = run(here, "t.parquet", start=no_engine)
    pandas.testing.assert_frame_equal(again, table)


def test_what_is_expected_to_take_longest_is_asked_first(folder, tmp_path):
    here = make_folder(tmp_path / "job")
    for model, tokens in (("one", {"p2": 5.0, "p10": 90.0}), ("two", {"p2": 50.0})):
        (here / "samples" / model).mkdir(parents=True)
        said = here / "samples" / model / "1-of-1.json"
        said.write_text(json.dumps({"mean_tokens": tokens}))
    (here / "samples" / "one" / "broken.json").write_text("{")
    seen = []

    def start(serving, sequences):
        def complete(requests):
            requests = list(requests)
            seen.extend(request.seed for request in requests)
            return pretend(serving, sequences)(requests)

        return complete

    table = run(here, "samples/m/1-of-1.parquet", start=start)
    asked = table.set_index("seed")["problem_id"].loc[seen].tolist()
    assert list(dict.fromkeys(asked)) == ["p1", "p10", "p2"]


SLOW_JOB = """
import sys, time
sys.path[:0] = sys.argv[1:3]
import sampling_case as tests
from pathlib import Path
tests.completions.engine.versions = lambda: {"vllm": "a version"}

def slowly(serving, sequences):
    def complete(requests):
        for finished in tests.pretend(serving, sequences)(requests):
            time.sleep(0.02)
            yield finished
    return complete

tests.completions.sample(tests.job(Path(sys.argv[3]), "killed.parquet", "--samples", "40"), slowly)
"""


def test_kill_9_costs_nothing_that_was_finished(folder):
    whole = run(folder, "unkilled.parquet", "--samples", "40")
    output = folder / "killed.parquet"
    command = [sys.executable, "-c", SLOW_JOB, str(SCRIPTS), str(Path(__file__).parents[1])]
    for wanted in (20, 50):
        assert kill_at([*command, str(folder)], output, wanted) == -9
        assert wanted <= len(kept(output)) < 120
        assert not output.exists()
    there, more = len(kept(output)), []
    run(folder, "killed.parquet", "--samples", "40", start=counting(more))
    assert len(more) == len(whole) - there
    assert output.read_bytes() == (folder / "unkilled.parquet").read_bytes()


def test_sigterm_ends_sampling_when_all_that_is_finished_is_kept(folder):
    whole = run(folder, "unended.parquet", "--samples", "40")
    name, seen, more = "ended.parquet", [], []

    def start(serving, sequences):
        def complete(requests):
            for number, finished in enumerate(pretend(serving, sequences, seen)(requests)):
                if number == 31:  # in the step that finishes the 16th
                    os.kill(os.getpid(), signal.SIGTERM)
                yield finished

        return complete

    with pytest.raises(Ended), listening():
        run(folder, name, "--samples", "40", start=start)
    assert len(kept(folder / name)) == len(seen) == 16
    assert not (folder / name).exists()
    (setting,) = (folder / f"{name}.store").glob("*/")
    assert not list(setting.glob("turn-*"))  # so that another machine need not wait
    run(folder, name, "--samples", "40", start=counting(more))
    assert len(more) == len(whole) - 16
    assert (folder / name).read_bytes() == (folder / "unended.parquet").read_bytes()
