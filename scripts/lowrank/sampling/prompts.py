"""Prompts as token ids: one tokenizer and one chat template for every model of an experiment."""

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.errors import InputError
from lowrank.files import read_json, sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PLACEHOLDER = "{problem}"

# What a chat template that prints the date (Llama 3's does) takes for today: a pool that is made
# over midnight, or grown a year later, has one prompt a problem.
TODAY = datetime(2025, 1, 1)

# What in a tokenizer folder decides prompts, end tokens and decoding.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
)


def load_tokenizer(folder: str | Path) -> "PreTrainedTokenizerFast":
    """The tokenizer of a checkpoint folder, exactly as its tokenizer.json states it.

    Not AutoTokenizer: transformers 5 rebuilds a tokenizer whose tokenizer_class says Llama
    (R1-Distill's does, over a byte-level vocabulary) and loses every space of the prompt.
    InputError if tokenizer.json or the chat template is missing or unreadable.
    """
    folder = Path(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if not (folder / name).is_file():
            raise InputError(
                f"{folder}: no {name}; --tokenizer must be a checkpoint folder that holds one"
            )
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # tokenizers raises bare Exception on a malformed file
        raise InputError(f"{folder}/tokenizer.json: not a readable tokenizer ({error})") from None
    if not isinstance(tokenizer.chat_template, str):
        raise InputError(
            f"{folder}: found {type(tokenizer.chat_template).__name__} for a chat template, one"
            " text was expected; give a tokenizer whose tokenizer_config.json or"
            " chat_template.jinja holds it"
        )
    return tokenizer


def tokenizer_digest(folder: str | Path) -> str:
    """SHA-256 over the names and contents of a folder's tokenizer files."""
    present = [name for name in TOKENIZER_FILES if (Path(folder) / name).is_file()]
    lines = [f"{name} {sha256(Path(folder) / name)}\n" for name in present]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def end_tokens(folder: str | Path, tokenizer: "PreTrainedTokenizerFast") -> list[int]:
    """Ids that end a completion: the tokenizer's eos and those of generation_config.json beside it.

    They come from the tokenizer's folder for all models alike: checkpoints of one family name
    different eos ids, and a model must not differ from another by where it is cut.
    InputError if there is none.
    """
    found = {tokenizer.eos_token_id}
    generation = Path(folder) / "generation_config.json"
    if generation.is_file():
        named = read_json(generation).get("eos_token_id")
        found |= set(named) if isinstance(named, list) else {named}
    found.discard(None)
    if not found:
        raise InputError(
            f"{folder}: no eos token in tokenizer_config.json or generation_config.json;"
            " a completion could never end, name one there"
        )
    return sorted(found)


def prompt_text(
    tokenizer: "PreTrainedTokenizerFast", system: str, user: str, think: str, problem: str
) -> str:
    """The text a model continues: system and user message in the chat template, reasoning opened.

    system: the system message; none is sent when it is empty.
    user: the user message, with {problem} where the problem goes.
    think: what the generation is forced to begin inside (such as "<think>" and a line break);
        appended only as far as the template has not opened it already. Empty: nothing is forced.
    InputError if the template refuses or drops a message.
    """
    if PLACEHOLDER not in user:
        raise InputError(f"the user message {user!r} has no {PLACEHOLDER}; put it where it goes")
    question = user.replace(PLACEHOLDER, problem)
    messages = [{"role": "user", "content": question}]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    refuse_control_tokens(tokenizer, problem, think)
    try:
        text: str
        text, again = (
            tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, strftime_now=TODAY.strftime
            )
            for _ in range(2)
        )
    except Exception as error:  # a template can raise anything, jinja2's errors and its own
        raise InputError(f"the tokenizer's chat template refuses the messages ({error})") from None
    if text != again:
        raise InputError(
            "the tokenizer's chat template writes another prompt each time (does it draw at"
            " random?); a pool needs one prompt a problem: use a template without that"
        )
    for message in messages:
        if message["content"].strip() not in text:
            raise InputError(
                f"the tokenizer's chat template drops the {message['role']} message; use a"
                " tokenizer whose template shows it, or leave the system message empty and say"
                " it in the user message"
            )
    return text + missing_opening(text, think)


def refuse_control_tokens(tokenizer: "PreTrainedTokenizerFast", problem: str, think: str) -> None:
    """InputError if a problem spells a token that steers the model: it would become that token.

    Those are the tokenizer's special tokens, and the tag that opens the reasoning with its end.
    """
    tag = think.strip()
    steering = {
        token.content for token in tokenizer.added_tokens_decoder.values() if token.special
    } | ({tag, tag.replace("<", "</", 1)} if tag.startswith("<") else set())
    for token in sorted(steering - {""}):
        if token in problem:
            raise InputError(
                f"its text spells {token!r}, which the tokenizer reads as a control token; write"
                " it otherwise, or take the problem out"
            )


def template_frame(text: str, content: str) -> tuple[str, str]:
    """What a prompt has before and after the user's message: what template and prefix add.

    >>> template_frame("<bos>[user]1+1[assistant]", "1+1")
    ('<bos>[user]', '[assistant]')
    """
    before, _, after = text.rpartition(content.strip())
    return before, after


def missing_opening(text: str, think: str) -> str:
    """The part of `think` that `text` does not already end with.

    >>> missing_opening("...<|Assistant|>", "<think>\\n")
    '<think>\\n'
    >>> missing_opening("...<|Assistant|><think>\\n", "<think>\\n")
    ''
    >>> missing_opening("...<|Assistant|><think>", "<think>\\n")
    '\\n'
    """
    tag = think.strip()
    if not tag or not text.rstrip().endswith(tag):
        return think
    # The template has opened it; only trailing white space can still be missing.
    there = text[len(text.rstrip()) :]
    wanted = think[len(think.rstrip()) :]
    return wanted[len(there) :] if wanted.startswith(there) else ""


def prompt_ids(
    tokenizer: "PreTrainedTokenizerFast", system: str, user: str, think: str, problem: str
) -> list[int]:
    """Token ids of `prompt_text`, for the engine as they are.

    The template is the only one to place special tokens: encoding adds none, so no second BOS.
    InputError if the prompt begins with two BOS all the same (a message that spells one out).
    """
    text = prompt_text(tokenizer, system, user, think, problem)
    ids = tokenizer.encode(text, add_special_tokens=False)
    bos = tokenizer.bos_token_id
    if bos is not None and list(ids[:2]) == [bos, bos]:
        raise InputError(
            f"the prompt begins with {tokenizer.bos_token} twice; the chat template places it,"
            " take it out of the message"
        )
    if not ids:
        raise InputError("the chat template gives an empty prompt; nothing could be continued")
    return list(ids)


def ids_digest(ids: Iterable[int]) -> str:
    """SHA-256 of token ids, written in decimal with single spaces between."""
    return hashlib.sha256(" ".join(map(str, ids)).encode()).hexdigest()


def completion_text(
    tokenizer: "PreTrainedTokenizerFast", ids: Sequence[int], ends: Iterable[int]
) -> str:
    """Text of generated token ids: all of them but the end token that may stand last.

    Special tokens stay in it, since </think> may be one and marks the end of the reasoning; so
    does a padding token, which may be an ordinary one. Ids that the tokenizer does not know (a
    padded embedding has some) have no text.
    """
    kept = list(ids[:-1] if len(ids) and ids[-1] in set(ends) else ids)
    # Not tokenizer.decode, which looks at every id again before it does just this.
    text: str = tokenizer.backend_tokenizer.decode(kept, skip_special_tokens=False)
    return text
