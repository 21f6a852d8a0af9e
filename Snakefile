"""Is what reinforcement learning changed in a language model low-rank?

models -> delta -> adapters and variants -> samples -> grades and divergence
  -> metrics and comparisons -> report
"""

import sys
from pathlib import Path

from snakemake.utils import min_version

min_version(
    "9.27.1"
)  # older ones run finished jobs again when results are carried to another folder

# The workflow's own folder; another one than the working directory with --directory or as a module.
HERE = Path(workflow.snakefile).resolve().parent
if not (HERE / "scripts/lowrank").is_dir():
    sys.exit(f"error: {HERE}: has no scripts/lowrank; clone the repository, name its Snakefile")
sys.path.insert(0, str(HERE / "scripts"))

from lowrank.plan.compared import compared, compared_flags, compared_grades, comparisons
from lowrank.plan.configuration import load
from lowrank.plan.digest import code_digest, source_digest
from lowrank.plan.layout import completions_beside
from lowrank.errors import InputError
from lowrank.gpus import gpus_to_share
from lowrank.plan.flags import flags, folder_flag
from lowrank.machine import total_memory
from lowrank.places import ROOT, shipped
from lowrank.report.outputs import PICTURES, figures, pictures, tables
from lowrank.models.planned import check_lengths, check_sizes, lost_weights
from lowrank.plan import divergence
from lowrank.plan.strict_yaml import read_yaml
from lowrank.plan.surroundings import shield

if ROOT != HERE:
    sys.exit(f"error: {HERE}: this run already uses the workflow in {ROOT}; one run, one clone")


# Answers that config.yaml leaves open are those of the config.yaml beside this file.
if Path("config.yaml").is_file():

    configfile: "config.yaml"


try:
    shield(deployed=bool(workflow.deployment_settings.deployment_method))
    for file in workflow.configfiles:
        read_yaml(Path(file), file)
    experiment = load(config, module=__name__, given=workflow.config_settings.overwrite_config)
    check_lengths(experiment)
    if workflow.is_main_process:
        check_sizes(experiment)
        if lost := lost_weights(experiment):
            print(lost, file=sys.stderr)
except InputError as error:
    sys.exit(f"error: {error}")
layout = experiment.layout


# A cluster's executor is given a number of jobs, one machine a number of cores. Not asked is
# workflow.local_exec: which executor it is Snakemake knows only once this file is read.
local = workflow.resource_settings.nodes is None

# One machine computes on all GPUs that it sees, or on as many as --resources gpu=N allows, and
# starts no more jobs at once than its memory holds.
if local and workflow.is_main_process:
    try:
        limit = workflow.global_resources.get("gpu").value
        workflow.register_resource("gpu", gpus_to_share(experiment.most_gpus, limit))
    except InputError as error:
        sys.exit(f"error: {error}")
if local and "mem_mb" not in workflow.global_resources:
    workflow.register_resource("mem_mb", total_memory() // 2**20)


# Compute nodes of a cluster often have no internet: what is fetched is fetched where Snakemake runs.
if not local:

    localrules:
        fetch_weights,
        fetch_model,
        fetch_adapter,
        fetch_benchmark,
        describe,


report: f"{HERE}/workflow/report/workflow.rst"


# Looked for in the working directory, and with --sdm apptainer alone; see containers/apptainer.def.
container: "containers/lowrank.sif"


# A scheduler sends SIGTERM to every process of a job. The shell then waits for its program, which
# says its last words and keeps what it has finished (lowrank.ending).
shell.prefix("set -euo pipefail; trap : TERM; ")


wildcard_constraints:
    model="|".join(experiment.read + list(experiment.models)),
    delta="|".join(experiment.deltas),
    variant="|".join(experiment.variants),
    benchmark="|".join(experiment.benchmarks),
    compared="|".join(compared(experiment)),
    part="|".join(experiment.parts),
    adapter="|".join(experiment.adapters),
    description="|".join(experiment.descriptions),


rule all:
    input:
        experiment.evidence(),
        comparisons(experiment),
        divergence.results(experiment),
        layout.report / "report.html",
        layout.asked(experiment.question),
    message:
        experiment.plan


include: f"{HERE}/workflow/rules/models.smk"
include: f"{HERE}/workflow/rules/delta.smk"
include: f"{HERE}/workflow/rules/variants.smk"
include: f"{HERE}/workflow/rules/sampling.smk"
include: f"{HERE}/workflow/rules/grading.smk"
include: f"{HERE}/workflow/rules/divergence.smk"
include: f"{HERE}/workflow/rules/metrics.smk"
include: f"{HERE}/workflow/rules/report.smk"
include: f"{HERE}/workflow/rules/train.smk"
