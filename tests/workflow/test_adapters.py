"""Somebody's adapter in an experiment: the README's four lines, word for word, and what follows."""

import json
import re
import shutil

import pytest
import torch
import yaml
from peft_case import make_adapter, merged_by_peft
from safetensors.torch import load_file
from variant_case import load_strictly
from workflow_case import ROOT, make_case, planned, snakemake

MODEL = "results/tiny/models/theirs"


def four_lines() -> str:
    """What the README says to put below `models:`."""
    (block,) = re.findall(
        r"```yaml\n(  theirs:\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(block.splitlines()) == 4
    return block


@pytest.fixture
def adapted(tmp_path):
    """A case with the four lines, the adapter that they name, and the model among the sampled."""

    def make(**config):
        case = make_case(tmp_path / "case")
        make_adapter(case / "resources/mini/sft", case / "adapters/theirs", **config)
        path = case / "experiments/tiny.yaml"
        text = path.read_text()
        assert text.count("\nmodels:\n") == text.count("- rl\n") == 1
        text = text.replace("\nmodels:\n", "\nmodels:\n" + four_lines())
        path.write_text(text.replace("- rl\n", "- rl\n- theirs\n"))
        return case

    return make


def built(case, *targets: str):
    return snakemake(case, "--cores", "1", *targets)


@pytest.mark.parametrize("dora", [False, True])
def test_four_lines_put_an_adapter_into_an_experiment(adapted, dora):
    """Its weights are those that PEFT merges, in float32, and its logits those of that model."""
    case = adapted(use_dora=dora, use_rslora=True, rank_pattern={"q_proj": 2})
    jobs = planned(case)
    assert {
        "fetch_adapter model=theirs",
        "merge_adapter model=theirs",
        "sample model=theirs part=1-of-1",
        "divergence model=theirs",
    } <= jobs
    assert "fetch_model model=theirs" not in jobs
    built(case, f"{MODEL}/manifest.json")
    ours = load_strictly(case / MODEL)
    theirs = merged_by_peft(case / "resources/mini/sft", case / "adapters/theirs")
    assert ours.dtype == torch.float32
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, weight in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], weight, rtol=1e-5, atol=1e-6)
    ids = torch.arange(40)[None]
    with torch.no_grad():
        expected = theirs(ids).logits
        torch.testing.assert_close(ours(ids).logits, expected, rtol=1e-4, atol=1e-4)
    assert not any(word in planned(case) for word in jobs if "adapter model" in word)


def test_its_change_is_of_the_rank_of_its_factors(adapted):
    """As the derivative of a delta: of a LoRA the adapter of that rank gives all of it back."""
    case = adapted(r=2, target_modules="all-linear")
    path = case / "experiments/tiny.yaml"
    text = path.read_text().replace("    derivative: rl\n", "    derivative: theirs\n")
    path.write_text(text)
    built(case, "results/tiny/variants/r2-copy/fidelity.json")
    record = json.loads((case / "results/tiny/adapters/rl/r2/adapter.json").read_text())
    for matrix in record["matrices"].values():
        assert matrix["energy_kept"] == pytest.approx(1, abs=1e-6)
    variant = load_file(case / "results/tiny/variants/r2-copy/model.safetensors")
    for name, weight in load_file(case / MODEL / "model.safetensors").items():
        close = torch.isclose(variant[name].float(), weight.bfloat16().float(), atol=1e-6)
        assert close.float().mean() > 0.999, name


def test_what_changes_an_adapter_makes_its_model_anew(adapted):
    case = adapted()
    built(case, f"{MODEL}/manifest.json")
    anew = {"fetch_adapter model=theirs", "merge_adapter model=theirs"}
    assert not anew & planned(case)
    (case / "adapters/theirs/README.md").write_text("of no effect")
    assert not anew & planned(case)
    config = case / "adapters/theirs/adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"lora_alpha": 3}))
    assert anew <= planned(case)
    before = load_file(case / MODEL / "model.safetensors")
    built(case, f"{MODEL}/manifest.json")
    after = load_file(case / MODEL / "model.safetensors")
    assert any(not torch.equal(after[name], weight) for name, weight in before.items())


def test_an_adapter_for_another_base_stops_with_a_sentence(adapted):
    case = adapted()
    path = case / "experiments/tiny.yaml"
    path.write_text(path.read_text().replace("    on: sft\n", "    on: pretrained\n"))
    done = snakemake(case, "--cores", "1", f"{MODEL}/manifest.json", check=False)
    assert done.returncode
    log = (case / "results/tiny/logs/models/theirs.log").read_text()
    assert re.search(r"^error: .*was made for .*resources/mini/sft .* put it on the model", log)
    assert not list((case / MODEL).glob("*.safetensors"))
    # What is not even there is refused while planning.
    shutil.rmtree(case / "adapters/theirs")
    said = snakemake(case, "-n", check=False).stdout
    assert (
        "error: experiments/tiny.yaml: models.theirs.adapter.path: adapters/theirs: no such" in said
    )


def test_others_adapters_are_planned_once_their_revisions_are_filled_in(tmp_path):
    case = make_case(tmp_path / "case")
    path = case / "experiments/adapters.yaml"
    asked = ("--configfile", "config.yaml", "--config", "experiment=adapters", "ranks=[16]", "-n")
    # Nothing listens there: a plan that asked a hub would fail.
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    said = snakemake(case, *asked, check=False, environment=environment).stdout
    assert "models.perl-dora.adapter.revision is 'TO-FILL-IN'; a 40-digit commit is needed" in said
    path.write_text(path.read_text().replace("TO-FILL-IN", "a" * 40))
    stats = snakemake(case, *asked, environment=environment).stdout
    assert re.search(r"^fetch_adapter +4$", stats, re.MULTILINE)
    assert re.search(r"^merge_adapter +4$", stats, re.MULTILINE)
    text = path.read_text().replace("    on:", "    'on':")
    models = yaml.safe_load(text)["models"]
    post = yaml.safe_load((case / "experiments/deepscaler.yaml").read_text())["models"]
    assert {name: models[name] for name in post} == post
    assert {model["on"] for model in models.values() if "adapter" in model} == {"distill"}
