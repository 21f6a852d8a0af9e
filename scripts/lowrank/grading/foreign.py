"""Files of other evaluation tools, read line by line: completions, answers and scores.

lighteval: details_<task>_<date>.parquet (--save-details). Columns doc, model_response and metric;
    older versions have example, predictions, gold and metrics, some of them as text.
    https://huggingface.co/docs/lighteval/saving-and-reading-results
lm-evaluation-harness: samples_<task>_<date>.jsonl (--log_samples), a line a document and filter.
    https://github.com/EleutherAI/lm-evaluation-harness/blob/main/docs/interface.md
inspect_ai: a log, .eval (a zip archive of JSON files) or .json, a sample an epoch.
    https://inspect.aisi.org.uk/eval-logs.html
"""

import ast
import json
import re
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowrank.errors import InputError
from lowrank.grading.answers import extract
from lowrank.pools import listed

# Metrics that say whether a completion is right, or how many of several are.
OF_RIGHT_ANSWERS = re.compile(
    r"avg@|pass@(k:k=)?1\b|extractive_match|exact_match|em$|qem$|math_verify|acc$"
)
JUDGED = re.compile(r"\bn=(\d+)|avg@(\d+)")
ZSTANDARD = 93  # number of the method in a zip archive
INVALID = "[invalid]"  # lm-evaluation-harness: a filter found nothing


@dataclass(frozen=True)
class Line:
    """What a tool says of one problem: a score for all the completions that it judged.

    task, problem_id: names; question may be None. gold: the right answer.
    completions: everything sampled. answers: one a completion that was judged, None for no answer.
    score: which share of them is right. sample: number of the first in the problem's pool.
    """

    task: str
    problem_id: str
    question: str | None
    gold: str
    completions: list[str]
    answers: list[str | None]
    score: float
    sample: int = 0


@dataclass(frozen=True)
class Log:
    """One file: its lines, the metric read, what else is to be said, and its own accuracy."""

    lines: list[Line]
    metric: str
    said: list[str]
    accuracy: float


def read(path: str | Path, form: str, metric: str | None = None, kept: str | None = None) -> Log:
    """A file of the tool `form`: "lighteval", "lm-eval" or "inspect".

    metric: which of its scores to read (inspect: which scorer); needed where
    several say what is right.
    kept: which of lm-evaluation-harness's filters.
    Raises InputError for a file of another form, and for scores that do not say what is right.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        match form:
            case "lighteval":
                return _lighteval(path, metric)
            case "lm-eval":
                return _lm_eval(path, metric, kept)
        return _inspect(path, metric)
    except InputError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, OSError) as error:
        why = f"lacks {error}" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: not as {form} writes it ({why})") from None


# --- lighteval --------------------------------------------------------------------------------


def _lighteval(path: Path, metric: str | None) -> Log:
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(path).to_pylist()
    details = [_detail(row, i) for i, row in enumerate(rows)]
    metric = _metric(path, [detail["metric"] for detail in details], metric)
    lines = []
    for detail in details:
        texts, score = detail["texts"], float(detail["metric"][metric])
        found = JUDGED.search(metric)
        judged = int(found[1] or found[2]) if found else len(texts)
        answers = [final_answer(text) for text in texts[:judged]]
        lines.append(
            Line(detail["task"], detail["id"], detail["question"], detail["gold"], texts, answers,
                 score)
        )  # fmt: skip
    return Log(lines, metric, [], _mean_score(lines))


def _detail(row: Mapping[str, Any], number: int) -> dict[str, Any]:
    """A row of either layout."""
    if "model_response" in row:
        doc, response = row["doc"], row["model_response"]
        at = doc["gold_index"]
        return {
            "task": doc.get("task_name") or "",
            "id": str(doc.get("id") or number),
            "question": doc.get("original_query") or doc["query"],
            "gold": _gold(doc["choices"][_first(at)]),
            "texts": list(response.get("text_post_processed") or response["text"]),
            "metric": row["metric"],
        }
    row = {name: _unpacked(value) for name, value in row.items()}
    texts = row["predictions"]
    return {
        "task": "",
        "id": str(number),
        "question": row.get("example"),
        "gold": _gold(row["gold"]),
        "texts": texts[0] if isinstance(texts[0], list) else texts,
        "metric": row["metrics"],
    }


def _unpacked(value: Any) -> Any:
    """Older versions store lists and mappings as Python writes them."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError):
            return value
    return value


# --- lm-evaluation-harness --------------------------------------------------------------------


def _lm_eval(path: Path, metric: str | None, name: str | None) -> Log:
    text = path.read_text(encoding="utf-8-sig")
    rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    filters = list(dict.fromkeys(row["filter"] for row in rows))
    if name is None and len(filters) > 1:
        raise InputError(f"{path}: holds the filters {listed(filters)}; name one with --filter")
    if name is not None and name not in filters:
        raise InputError(f"{path}: has no filter {name!r}; its filters are {listed(filters)}")
    rows = [row for row in rows if name in (None, row["filter"])]
    scores = [{name: row[name] for name in row["metrics"]} for row in rows]
    metric = _metric(path, scores, metric)
    lines, partly = [], 0
    for row, found in zip(rows, scores, strict=True):
        texts, kept = row["resps"][0], row["filtered_resps"][0]
        kept = kept if isinstance(kept, list) else [kept]
        if not all(isinstance(text, str) for text in [*texts, *kept]):
            raise ValueError("it holds log-likelihoods of given answers, no completions")
        partly += len(kept) < len(texts)
        answers = [_filtered(text, texts) for text in kept]
        problem, gold = str(row["doc_id"]), _gold(row["target"])
        question = row["arguments"]["gen_args_0"]["arg_0"] if "arguments" in row else None
        lines.append(Line("", problem, question, gold, texts, answers, float(found[metric])))
    said = [
        f"of {partly} problems the filter {rows[0]['filter']!r} judges one answer, though"
        " more was sampled; --ungraded writes all completions, for grade.py"
    ]
    return Log(lines, metric, said if partly else [], _mean_score(lines))


def _filtered(text: str, texts: list[str]) -> str | None:
    """What a filter left of a completion, or where it left all, the answer in it."""
    if text in texts:
        return final_answer(text)
    return None if text.strip() in ("", INVALID) else text.strip()


# --- inspect_ai -------------------------------------------------------------------------------


def _inspect(path: Path, scorer: str | None) -> Log:
    header, samples = _inspect_log(path)
    scored = [sample for sample in samples if sample.get("scores")]
    if not scored:
        raise ValueError(f"none of its {len(samples)} samples has a score")
    names = list(dict.fromkeys(name for sample in scored for name in sample["scores"]))
    if scorer is None and len(names) > 1:
        raise InputError(f"{path}: holds the scorers {listed(names)}; name one with --metric")
    if scorer is not None and scorer not in names:
        raise InputError(f"{path}: has no scorer {scorer!r}; its scorers are {listed(names)}")
    scorer = scorer or names[0]
    lines = []
    for sample in scored:
        score = sample["scores"].get(scorer)
        value = None if score is None else _value(score["value"])
        if value is None:  # not scored: the tool leaves it out of its own accuracy, too
            continue
        text = _completion(sample)
        given = score.get("answer")
        answer = given.strip() or None if isinstance(given, str) else final_answer(text)
        if answer is not None and "\n" in answer:  # some scorers give back the whole text
            answer = final_answer(answer)
        problem, question = str(sample["id"]), sample["input"]
        question = question if isinstance(question, str) else None
        gold, epoch = _gold(sample["target"]), int(sample["epoch"]) - 1
        lines.append(Line("", problem, question, gold, [text], [answer], value, epoch))
    left, status = len(samples) - len(lines), header.get("status", "success")
    said = [f"the log's status is {status!r}"] * (status != "success")
    said += [f"{left} of {len(samples)} samples have no score and are left out"] * bool(left)
    own = [
        found["metrics"]["accuracy"]["value"]
        for found in ((header.get("results") or {}).get("scores") or [])
        if found["name"] == scorer and found.get("reducer") in (None, "mean")
        if "accuracy" in found["metrics"]
    ]
    return Log(lines, scorer, said, own[0] if own else _mean_score(lines))


def _inspect_log(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and samples of a log, whatever its suffix."""
    if not zipfile.is_zipfile(path):
        log = json.loads(path.read_text(encoding="utf-8-sig"))
        return log, log["samples"] or []
    with zipfile.ZipFile(path) as archive:
        files = {entry.filename: entry for entry in archive.infolist()}
        names = [name for name in files if re.fullmatch(r"samples/.*\.json", name)]
        samples = [json.loads(_unzipped(archive, files[name])) for name in sorted(names)]
        header = files.get("header.json")
        return json.loads(_unzipped(archive, header)) if header else {}, samples


def _unzipped(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """A file of an archive. inspect_ai compresses by Zstandard, which zipfile cannot read yet."""
    if entry.compress_type != ZSTANDARD:
        return archive.read(entry)
    import pyarrow

    with Path(str(archive.filename)).open("rb") as raw:
        raw.seek(entry.header_offset + 26)  # two lengths, then the name and what is added to it
        added = int.from_bytes(raw.read(2), "little") + int.from_bytes(raw.read(2), "little")
        raw.seek(added, 1)
        packed = pyarrow.py_buffer(raw.read(entry.compress_size))
    content: bytes = pyarrow.input_stream(packed, compression="zstd").read()
    return content


def _completion(sample: Mapping[str, Any]) -> str:
    output = sample["output"]
    text = output.get("completion")
    if not isinstance(text, str):
        content = output["choices"][0]["message"]["content"] if output["choices"] else ""
        parts = [content] if isinstance(content, str) else [p.get("text", "") for p in content]
        text = "".join(parts)
    key = text.removeprefix("attachment://")  # long texts are kept beside the sample
    return str(sample.get("attachments", {}).get(key, text))


def _value(value: Any) -> float | None:
    """A score as inspect_ai's value_to_float reads it; None for NaN, which is "not scored"."""
    words = {"c": 1.0, "i": 0.0, "n": 0.0, "p": 0.5, "yes": 1.0, "true": 1.0, "no": 0.0,
             "false": 0.0}  # fmt: skip
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    number = float(value)
    return None if number != number else number


# --- for all of them --------------------------------------------------------------------------


def final_answer(text: str | None) -> str | None:
    """The last box of a completion; without one the text itself, if it is a single line."""
    box = extract(text)
    line = (text or "").strip()
    return box or (line if line and "\n" not in line else None)


def _metric(path: Path, scores: Sequence[Mapping[str, Any]], asked: str | None) -> str:
    """Which metric to read: the one asked for, else one that says what is right (if all agree)."""
    if not scores:
        raise ValueError("it has no rows")
    names = [n for n, value in scores[0].items() if isinstance(value, int | float)]
    if asked:
        if asked not in names:
            raise InputError(f"{path}: has no metric {asked!r}; its metrics are {listed(names)}")
        return asked
    found = [name for name in names if OF_RIGHT_ANSWERS.match(name)]
    agree = all(len({row[name] for name in found}) == 1 for row in scores)
    if not agree and len(names) != 1:
        raise InputError(f"{path}: holds the metrics {listed(names)}; name one with --metric")
    first: str = (found or names)[0]
    return first


def _gold(gold: Any) -> str:
    """The right answer; GSM8K's golds are solutions that end with #### and the answer."""
    return str(_first(gold)).rpartition("####")[2].strip()


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) else value


def _mean_score(lines: Iterable[Line]) -> float:
    scores = [line.score for line in lines]
    return sum(scores) / len(scores)
