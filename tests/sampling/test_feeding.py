"""Requests into an engine, completions out: a pretended vLLM that notes what it is asked."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from lowrank.errors import InputError
from lowrank.sampling import feeding
from lowrank.sampling.feeding import Completion, Request


@pytest.fixture(autouse=True)
def _pretended(monkeypatch):
    """The names that are imported of vLLM; what is made by them keeps what it was given."""
    parameters = ModuleType("vllm.sampling_params")
    parameters.SamplingParams = SimpleNamespace
    parameters.RequestOutputKind = SimpleNamespace(FINAL_ONLY="the end alone")
    lora = ModuleType("vllm.lora.request")
    lora.LoRARequest = lambda name, number, path: (name, number, path)
    for module in (ModuleType("vllm"), ModuleType("vllm.lora"), parameters, lora):
        monkeypatch.setitem(sys.modules, module.__name__, module)


class Engine:
    """Finishes the latest of its requests a step, as a real one finishes in no order; the others
    are in its output all the same, unfinished."""

    def __init__(self, reason: str | None = "stop"):
        self.asked, self.running, self.most, self.reason = [], [], 0, reason
        tokens = SimpleNamespace(num_output_tokens=7)
        scheduler = SimpleNamespace(running=[tokens, tokens])
        self.engine_core = SimpleNamespace(engine_core=SimpleNamespace(scheduler=scheduler))

    def add_request(self, name, prompt, parameters, lora_request):
        self.asked.append((name, prompt, parameters, lora_request))
        self.running.append(name)
        self.most = max(self.most, len(self.running))

    def step(self):
        made = SimpleNamespace(token_ids=[5, 6], finish_reason=self.reason)
        outputs = [
            SimpleNamespace(request_id=name, finished=name == self.running[-1], outputs=[made])
            for name in self.running
        ]
        self.running.pop()
        return outputs


def request(name: str = "a", **more) -> Request:
    given = {"prompt": (1, 2, 3), "seed": 2**40 + 1, "max_tokens": 9, "temperature": 0.7}
    return Request(name, **given | {"top_p": 0.8, "end_tokens": (4, 8)} | more)


def run(engine, requests, adapter=None, in_flight=3):
    return list(feeding.complete(engine, adapter, in_flight, requests))


def test_all_of_a_request_reaches_the_engine():
    engine = Engine()
    run(engine, [request()])
    ((name, prompt, parameters, lora),) = engine.asked
    assert (name, prompt, lora) == ("a", {"prompt_token_ids": [1, 2, 3]}, None)
    assert vars(parameters) == {
        "temperature": 0.7,
        "top_p": 0.8,
        "max_tokens": 9,
        "seed": 2**40 + 1,
        "stop_token_ids": [4, 8],
        "ignore_eos": True,  # the model's own end token ends nothing
        "detokenize": False,
        "output_kind": "the end alone",
    }


def test_an_adapter_is_asked_for_by_every_request_under_one_name():
    engine = Engine()
    run(engine, [request("a"), request("b")], Path("adapters/r3"))
    assert [lora for *_, lora in engine.asked] == [("r3", 1, "adapters/r3")] * 2
    # Its factors may be read from elsewhere: it is the same adapter all the same.
    elsewhere = feeding.lora_request(Path("adapters/r3"), Path("cast"))
    assert elsewhere == ("r3", 1, "cast")


@pytest.mark.parametrize(("in_flight", "most"), [(1, 1), (3, 3), (9, 5)])
def test_every_request_is_made_once_so_many_at_a_time(in_flight, most):
    names = list("abcde")
    engine = Engine("length")
    steps = run(engine, map(request, names), in_flight=in_flight)
    assert [name for name, *_ in engine.asked] == names
    assert engine.most == most
    made = [completion for finished, _ in steps for completion in finished]
    assert sorted(made, key=lambda one: one.name) == [
        Completion(name, (5, 6), "length") for name in names
    ]
    assert {tokens for _, tokens in steps} == {14}


def test_nothing_asked_is_no_step():
    assert run(None, []) == []


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_what_ends_in_another_way_is_no_completion(reason):
    with pytest.raises(RuntimeError, match=f"gave up on a: finish_reason {reason!r}"):
        run(Engine(reason), [request()])


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ("NaNs detected in logits", InputError, "serve it as bfloat16 or float32"),
        ("no more memory", RuntimeError, "no more memory"),
    ],
)
def test_logits_that_are_not_finite_are_the_users_to_mend_and_nothing_else_is(said, kind, message):
    engine = Engine()
    engine.step = lambda: (_ for _ in ()).throw(RuntimeError(said))
    with pytest.raises(kind, match=message) as error:
        run(engine, [request()])
    assert isinstance(error.value, InputError) == (kind is InputError)


def test_an_engine_that_does_not_tell_has_no_tokens_in_progress():
    assert feeding.tokens_in_progress(SimpleNamespace()) == 0
