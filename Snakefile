"""Is what reinforcement learning changed in a language model low-rank?

models -> delta -> adapters and variants -> samples -> grades -> metrics -> report
"""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.0")

sys.path.insert(0, str(Path(workflow.basedir) / "scripts"))

from lowrank.configuration import load
from lowrank.digest import code_digest, source_digest
from lowrank.errors import InputError


configfile: "config.yaml"


try:
    experiment = load(config, workflow.basedir)
except InputError as error:
    sys.exit(f"error: {error}")


# One machine samples on one GPU at a time, unless it is told --resources gpu=N.
if workflow.local_exec and "gpu" not in workflow.global_resources:
    workflow.register_resource("gpu", 1)


report: "workflow/report/workflow.rst"


localrules:
    all,


wildcard_constraints:
    experiment=experiment.name,
    model="|".join(experiment.sampled + list(experiment.models)),
    delta="|".join(experiment.deltas),
    variant="|".join(experiment.variants),
    benchmark="|".join(experiment.benchmarks),
    shard=r"\d{4}-\d{4}",
    adapter="|".join(experiment.adapters),


rule all:
    input:
        f"results/{experiment.name}/report/report.html",


include: "workflow/rules/models.smk"
include: "workflow/rules/delta.smk"
include: "workflow/rules/variants.smk"
include: "workflow/rules/sampling.smk"
include: "workflow/rules/grading.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/train.smk"
