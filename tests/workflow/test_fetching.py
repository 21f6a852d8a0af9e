"""A run that needs a hub: what it says when that fails, and what it never says."""

import os

import yaml
from hub_server import COMMIT, running_hub
from workflow_case import make_case, snakemake

SECRET = "hf_SecretSecretSecretSecretSecret00"


def test_a_failing_hub_is_explained_and_the_token_written_nowhere(tmp_path):
    case = make_case(tmp_path / "case")
    path = case / "experiments/tiny.yaml"
    subject = yaml.safe_load(path.read_text())
    subject["models"]["rl"] = {"label": "RL", "repo": "lab/rl", "revision": COMMIT, "shards": 2}
    path.write_text(yaml.safe_dump(subject))
    with running_hub() as hub:
        hub.refuse = 500
        environment = {name: None for name in os.environ if name.startswith("HF_")} | {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hf-home"),
            "HF_TOKEN": SECRET,
            "NO_PROXY": "127.0.0.1",
        }
        shard = "results/tiny/models/rl/model-00001-of-00002.safetensors"
        asked = ("--cores", "1", "--verbose", "--printshellcmds", "--retries", "1", shard)
        said = snakemake(case, *asked, environment=environment, check=False).stdout
        assert any(SECRET in " ".join(headers.values()) for headers in hub.headers)
    assert "the hub answers with an error (500); run it again later" in said
    assert SECRET not in said
    written = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert any(".snakemake" in each.parts for each in written)
    assert not [each for each in written if SECRET.encode() in each.read_bytes()]
