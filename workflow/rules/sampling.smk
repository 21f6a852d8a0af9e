"""Completions of every problem by every model, in shards of the pool."""


rule sample:
    """The completions `first..last` of every problem by one model, sampled with vLLM."""
    input:
        model=lambda w: experiment.manifest(w.model),
        adapter=lambda w: experiment.beside(w.model),
        tokenizer=experiment.manifest(experiment.subject["tokenizer"]),
        problems="results/{experiment}/benchmarks/{benchmark}.parquet",
    output:
        samples="results/{experiment}/samples/{benchmark}/{model}/{shard}.parquet",
        provenance="results/{experiment}/samples/{benchmark}/{model}/{shard}.json",
    log:
        "results/{experiment}/logs/samples/{benchmark}/{model}-{shard}.log",
    benchmark:
        "results/{experiment}/timings/samples/{benchmark}/{model}-{shard}.tsv"
    conda:
        f"../../envs/sampling-{experiment.sampling['device']}.yaml"
    threads: experiment.sampling["threads"]
    resources:
        mem_mb=experiment.sampling["mem_mb"],
        runtime=lambda w, attempt: experiment.sampling["runtime"] * attempt,
        gpu=experiment.gpus,
    params:
        program=shipped("scripts/sample.py"),
        code=code_digest("scripts/sample.py"),
        pool=lambda w: experiment.shard_flags(w.shard),
        adapter=lambda w, input: folder_flag("adapter", input.adapter),
        settings=lambda w: experiment.sampling_flags(w.model),
    shell:
        "python {params.program:q} --model $(dirname {input.model})"
        " --tokenizer $(dirname {input.tokenizer}) --problems {input.problems}"
        " --model-name {wildcards.model} --benchmark {wildcards.benchmark}"
        " {params.adapter} {params.pool} {params.settings} --threads {threads}"
        " --output {output.samples} &> {log}"
