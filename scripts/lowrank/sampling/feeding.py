"""Requests into a running engine, completions out, step by step."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lowrank.errors import InputError

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest
    from vllm.outputs import RequestOutput
    from vllm.v1.engine.llm_engine import LLMEngine


@dataclass(frozen=True)
class Request:
    """One completion to make. A prompt of token ids, at most max_tokens more, a seed of its own."""

    name: str
    prompt: tuple[int, ...]
    seed: int
    max_tokens: int
    temperature: float
    top_p: float
    end_tokens: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """A finished request: generated ids (the end token included) and why it ended.

    finish: "stop" (an end token) or "length" (a limit on tokens).
    """

    name: str
    ids: tuple[int, ...]
    finish: str


# Requests in; for each step of the engine, the completions that it finished and the number of
# tokens that those still unfinished have by now.
Complete = Callable[[Iterable[Request]], Iterator[tuple[list[Completion], int]]]


def lora_request(adapter: Path, folder: Path | None = None) -> "LoRARequest":
    """vLLM's name of the adapter; folder: where it is read from, if not where it stands."""
    from vllm.lora.request import LoRARequest

    return LoRARequest(adapter.name or "adapter", 1, str(folder or adapter))


def complete(
    engine: "LLMEngine", adapter: Path | None, in_flight: int, requests: Iterable[Request]
) -> Iterator[tuple[list[Completion], int]]:
    """Feed requests in their order, at most `in_flight` at once; see `Complete` for what comes.

    InputError if the model's logits are not finite; RuntimeError if the engine aborts one.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    lora = None if adapter is None else lora_request(adapter)
    waiting = iter(requests)
    unfinished = 0
    while True:
        while unfinished < in_flight and (request := next(waiting, None)) is not None:
            parameters = SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                max_tokens=request.max_tokens,
                seed=request.seed,
                stop_token_ids=list(request.end_tokens),
                ignore_eos=True,  # the end tokens above are the only ones
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            prompt = {"prompt_token_ids": list(request.prompt)}
            engine.add_request(request.name, prompt, parameters, lora_request=lora)
            unfinished += 1
        if not unfinished:
            return
        finished = []
        for output in step(engine):
            if not output.finished:
                continue
            made = output.outputs[0]
            if made.finish_reason not in ("stop", "length"):
                raise RuntimeError(
                    f"vLLM gave up on {output.request_id}: finish_reason {made.finish_reason!r}"
                )
            finished.append(
                Completion(output.request_id, tuple(made.token_ids), made.finish_reason)
            )
        unfinished -= len(finished)
        yield finished, tokens_in_progress(engine)


def step(engine: "LLMEngine") -> "list[RequestOutput]":
    """One step of the engine; InputError if logits are not finite."""
    try:
        outputs: list[RequestOutput] = engine.step()
        return outputs
    except RuntimeError as error:
        if "NaNs detected in logits" not in str(error):
            raise
        raise InputError(
            "the model's logits are not finite: its values leave the range of what is computed in"
            " (float16 ends at 65,504), and every further token would mean nothing; serve it as"
            " bfloat16 or float32, or compute in float32 (compute_dtype)"
        ) from None


def tokens_in_progress(engine: "LLMEngine") -> int:
    """Tokens of the completions that are not finished; 0 if this vLLM does not tell."""
    try:
        running = engine.engine_core.engine_core.scheduler.running
        return sum(request.num_output_tokens for request in running)
    except AttributeError:
        return 0
