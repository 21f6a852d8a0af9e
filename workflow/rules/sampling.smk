"""Completions of every problem by every model: kept ones are taken, missing ones are sampled."""


rule sample:
    """A model's completions of every benchmark, or one part of them, from one start of vLLM."""
    input:
        model=lambda w: experiment.manifest(w.model),
        weights=ancient(lambda w: experiment.files(w.model)),
        adapter=lambda w: [adapter.record for adapter in experiment.unmerged(w.model)],
        factors=ancient(
            lambda w: [file for one in experiment.unmerged(w.model) for file in one.files]
        ),
        tokenizer_manifest=experiment.manifest(experiment.subject["tokenizer"]),
        tokenizer=ancient(experiment.tokenizer),
        problems=[layout.problems(benchmark) for benchmark in experiment.benchmarks],
    output:
        samples=[
            layout.samples(benchmark, "{model}", "{part}") for benchmark in experiment.benchmarks
        ],
        provenance=[
            layout.provenance(benchmark, "{model}", "{part}")
            for benchmark in experiment.benchmarks
        ],
    log:
        layout.log("samples/{model}-{part}"),
    benchmark:
        layout.timing("samples/{model}-{part}")
    # A variant is sampled and read before the next is built: with keep_variants: false there is
    # one of them on the disk at a time.
    priority: 1
    conda:
        f"../../envs/sampling-{experiment.sampling['device']}.yaml"
    threads: experiment.sampling["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.sampling["mem_mb"] * attempt,
        runtime=lambda w, attempt: experiment.sampling["runtime"] * attempt,
        gpu=lambda w: experiment.gpus(w.model),
        # What changes speed and memory alone: a resource, as a changed param would run jobs again.
        speed_flags=lambda w: experiment.speed_flags(w.model),
    params:
        program=shipped("scripts/sample.py"),
        code=code_digest("scripts/sample.py"),
        benchmark_flags=lambda w, input, output: experiment.benchmark_flags(
            input.problems, output.samples
        ),
        samples=experiment.config["samples"],
        part=lambda w: w.part.split("-of-")[0],
        parts=len(experiment.parts),
        seed=experiment.config["seed"],
        resample=experiment.config["resample"],
        device=experiment.sampling["device"],
        dtype=lambda w: experiment.served_dtype(w.model),
        compute_dtype=lambda w: experiment.compute_dtype(w.model),
        kernel_flags=lambda w: experiment.kernel_flags(w.model),
        temperature=experiment.sampling["temperature"],
        top_p=experiment.sampling["top_p"],
        max_tokens=experiment.sampling["max_tokens"],
        max_model_len=experiment.sampling["max_model_len"],
        # Of a function, as the braces in {problem} are no wildcard.
        system=lambda w: experiment.sampling["system"],
        user=lambda w: experiment.sampling["user"],
        think_prefix=lambda w: experiment.sampling["think_prefix"],
        model=subpath(input.model, parent=True),
        adapter_flag=lambda w, input: folder_flag("adapter", input.adapter),
        store=lambda w, output: experiment.config.get("completions")
        or completions_beside(output.samples[0]),
    shell:
        "python {params.program:q} --model {params.model} {params.adapter_flag}"
        " --tokenizer {input.tokenizer} --model-name {wildcards.model}"
        " {params.benchmark_flags} --samples {params.samples}"
        " --part {params.part} --parts {params.parts} --seed {params.seed}"
        " --store {params.store} --resample {params.resample}"
        " --device {params.device} --dtype {params.dtype}"
        " --compute-dtype {params.compute_dtype} {params.kernel_flags}"
        " --temperature {params.temperature} --top-p {params.top_p}"
        " --max-tokens {params.max_tokens} --max-model-len {params.max_model_len}"
        " --system={params.system:q} --user={params.user:q}"
        " --think-prefix={params.think_prefix:q}"
        " {resources.speed_flags} --memory-mb {resources.mem_mb} --threads {threads}"
        # Snakemake removes the log of a job that is tried again; the first failure stays in .all.
        # SIGTERM goes to all processes of a job: tee must outlive the program's last words.
        " 2>&1 | (trap '' TERM; exec tee -a {log}.all > {log})"
