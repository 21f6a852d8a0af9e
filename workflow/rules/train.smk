# How the embedded models of resources/mini were made. Nothing of this runs by default:
# `snakemake train_mini` remakes them under results/mini-training/mini, and whoever wants them
# copies them to resources/mini.

TRAINING = "experiments/training/mini.yaml"
TRAINED = layout.training


rule make_problems:
    """The embedded benchmark: seeded problems that no training ever sees."""
    output:
        problems=f"{TRAINED}/problems.jsonl",
    log:
        f"{TRAINED}/logs/make_problems.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 500 * attempt,
        runtime=lambda w, attempt: 5 * attempt,
    params:
        program=shipped("scripts/make_problems.py"),
        code=code_digest("scripts/make_problems.py"),
        settings=shipped(TRAINING),
        asked=source_digest(ROOT / TRAINING),
    shell:
        "python {params.program:q} --settings {params.settings:q} --output {output.problems}"
        " &> {log}"


rule train_pretrained:
    """The grandparent: arithmetic facts in plain text; bfloat16, tied embeddings."""
    output:
        weights=f"{TRAINED}/pretrained/model.safetensors",
        config=f"{TRAINED}/pretrained/config.json",
        curve=f"{TRAINED}/pretrained-curve.csv",
    log:
        f"{TRAINED}/logs/train_pretrained.log",
    benchmark:
        f"{TRAINED}/timings/train_pretrained.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        program=shipped("scripts/train_pretrained.py"),
        code=code_digest("scripts/train_pretrained.py"),
        settings=shipped(TRAINING),
        asked=source_digest(ROOT / TRAINING),
        folder=subpath(output.weights, parent=True),
    shell:
        "python {params.program:q} --settings {params.settings:q} --threads {threads}"
        " --output {params.folder} &> {log}"


rule train_worked:
    """Pretrained, untied, fine-tuned on worked traces: a step on the way to the base."""
    input:
        base=rules.train_pretrained.output.weights,
    output:
        weights=f"{TRAINED}/worked/model.safetensors",
        config=f"{TRAINED}/worked/config.json",
        curve=f"{TRAINED}/worked-curve.csv",
    log:
        f"{TRAINED}/logs/train_worked.log",
    benchmark:
        f"{TRAINED}/timings/train_worked.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        program=shipped("scripts/train_sft.py"),
        code=code_digest("scripts/train_sft.py"),
        settings=shipped(TRAINING),
        asked=source_digest(ROOT / TRAINING),
        base=subpath(input.base, parent=True),
        folder=subpath(output.weights, parent=True),
    shell:
        "python {params.program:q} --settings {params.settings:q} --stage worked --threads {threads}"
        " --base {params.base} --output {params.folder} &> {log}"


rule train_sft:
    """The base: fine-tuned on, half on traces that guess; bfloat16."""
    input:
        base=rules.train_worked.output.weights,
    output:
        weights=f"{TRAINED}/sft/model.safetensors",
        config=f"{TRAINED}/sft/config.json",
        curve=f"{TRAINED}/sft-curve.csv",
    log:
        f"{TRAINED}/logs/train_sft.log",
    benchmark:
        f"{TRAINED}/timings/train_sft.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 2
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        program=shipped("scripts/train_sft.py"),
        code=code_digest("scripts/train_sft.py"),
        settings=shipped(TRAINING),
        asked=source_digest(ROOT / TRAINING),
        base=subpath(input.base, parent=True),
        folder=subpath(output.weights, parent=True),
    shell:
        "python {params.program:q} --settings {params.settings:q} --stage sft --threads {threads}"
        " --base {params.base} --output {params.folder} &> {log}"


rule train_rl:
    """The derivative: sft trained further by GRPO with a rule for a reward; float32, two shards."""
    input:
        base=rules.train_sft.output.weights,
    output:
        index=f"{TRAINED}/rl/model.safetensors.index.json",
        config=f"{TRAINED}/rl/config.json",
        curve=f"{TRAINED}/rl-curve.csv",
    log:
        f"{TRAINED}/logs/train_rl.log",
    benchmark:
        f"{TRAINED}/timings/train_rl.tsv"
    conda:
        "../../envs/train.yaml"
    threads: 2
    resources:
        mem_mb=lambda w, attempt: 6000 * attempt,
        runtime=lambda w, attempt: 90 * attempt,
    params:
        program=shipped("scripts/train_rl.py"),
        code=code_digest("scripts/train_rl.py"),
        settings=shipped(TRAINING),
        asked=source_digest(ROOT / TRAINING),
        base=subpath(input.base, parent=True),
        folder=subpath(output.index, parent=True),
    shell:
        "python {params.program:q} --settings {params.settings:q} --threads {threads}"
        " --base {params.base} --output {params.folder} &> {log}"


rule train_mini:
    """The trio and its benchmark in one folder, to be copied to resources/mini by hand."""
    input:
        problems=rules.make_problems.output.problems,
        pretrained=rules.train_pretrained.output.weights,
        sft=rules.train_sft.output.weights,
        rl=rules.train_rl.output.index,
    output:
        mini=directory(f"{TRAINED}/mini"),
    log:
        f"{TRAINED}/logs/train_mini.log",
    conda:
        "../../envs/train.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 500 * attempt,
        runtime=lambda w, attempt: 5 * attempt,
    params:
        pretrained=subpath(input.pretrained, parent=True),
        sft=subpath(input.sft, parent=True),
        rl=subpath(input.rl, parent=True),
    shell:
        "(mkdir -p {output.mini}"
        " && cp -r {params.pretrained} {params.sft} {params.rl} {input.problems} {output.mini}"
        " && echo 'To use them: cp -r {output.mini}/. resources/mini/') &> {log}"
