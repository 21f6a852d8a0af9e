"""Completions of every problem by every model: kept ones are taken, missing ones are sampled."""


rule sample:
    """A model's completions of every benchmark, or one part of them, from one start of vLLM."""
    input:
        model=lambda w: experiment.manifest(w.model),
        weights=ancient(lambda w: experiment.weights(w.model)),
        adapter=lambda w: experiment.beside(w.model),
        factors=ancient(lambda w: adapter_weights(experiment.beside(w.model))),
        tokenizer=experiment.manifest(experiment.subject["tokenizer"]),
        problems=expand(
            "results/{{experiment}}/benchmarks/{benchmark}.parquet",
            benchmark=experiment.benchmarks,
        ),
    output:
        samples=expand(
            "results/{{experiment}}/samples/{benchmark}/{{model}}/{{part}}.parquet",
            benchmark=experiment.benchmarks,
        ),
        provenance=expand(
            "results/{{experiment}}/samples/{benchmark}/{{model}}/{{part}}.json",
            benchmark=experiment.benchmarks,
        ),
    log:
        "results/{experiment}/logs/samples/{model}-{part}.log",
    benchmark:
        "results/{experiment}/timings/samples/{model}-{part}.tsv"
    conda:
        f"../../envs/sampling-{experiment.sampling['device']}.yaml"
    threads: experiment.sampling["threads"]
    resources:
        mem_mb=experiment.sampling["mem_mb"],
        runtime=lambda w, attempt: experiment.sampling["runtime"] * attempt,
        gpu=experiment.gpus,
        # What changes speed and memory alone: a resource, as a changed param would run jobs again.
        engine=experiment.engine_flags,
    params:
        program=shipped("scripts/sample.py"),
        code=code_digest("scripts/sample.py"),
        adapter=lambda w, input: folder_flag("adapter", input.adapter),
        tables=lambda w, input, output: experiment.table_flags(input.problems, output.samples),
        store=lambda w, output: Path(output.samples[0]).parents[4] / "completions",
        pool=lambda w: experiment.pool_flags(w.part),
        settings=lambda w: experiment.sampling_flags(w.model),
    shell:
        "python {params.program:q} --model $(dirname {input.model})"
        " --tokenizer $(dirname {input.tokenizer}) --model-name {wildcards.model}"
        " {params.adapter} {params.tables} {params.pool} {params.settings}"
        " --store {params.store:q} {resources.engine} --memory-mb {resources.mem_mb}"
        # Snakemake removes the log of a job that is tried again; the first failure stays in .all.
        " --threads {threads} 2>&1 | tee -a {log}.all > {log}"
