"""How far every model is from the derivative on the derivative's own text: read, never sampled."""


rule read_derivative:
    """What is read of the derivative's completions, and its last hidden states there."""
    input:
        model=experiment.manifest(experiment.derivative),
        weights=ancient(experiment.files(experiment.derivative)),
        tokenizer_manifest=experiment.manifest(experiment.subject["tokenizer"]),
        tokenizer=ancient(experiment.tokenizer),
        problems=[layout.problems(benchmark) for benchmark in experiment.benchmarks],
        samples=[
            path
            for benchmark in experiment.benchmarks
            for path in experiment.samples(benchmark, experiment.derivative)
        ],
        provenance=ancient(
            [
                layout.provenance(benchmark, experiment.derivative, part)
                for benchmark in experiment.benchmarks
                for part in experiment.parts
            ]
        ),
    output:
        record=[layout.divergence(benchmark).reference for benchmark in experiment.benchmarks],
        files=[
            path
            for benchmark in experiment.benchmarks
            for path in layout.divergence(benchmark).reference_files
        ],
        states=[
            directory(layout.divergence(benchmark).states) for benchmark in experiment.benchmarks
        ],
    log:
        layout.log("divergence/reference"),
    benchmark:
        layout.timing("divergence/reference")
    priority: 1
    conda:
        "../../envs/divergence.yaml"
    threads: experiment.sampling["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.sampling["mem_mb"] * attempt,
        runtime=lambda w, attempt: experiment.sampling["runtime"] * attempt,
        gpu=int(experiment.sampling["device"] == "cuda"),
    params:
        program=shipped("scripts/read_derivative.py"),
        code=code_digest("scripts/read_derivative.py"),
        name=experiment.derivative,
        model=subpath(input.model, parent=True),
        reading_flags=divergence.derivative_flags(experiment),
        benchmark_flags=lambda w, input, output: divergence.benchmark_flags(
            experiment, input.problems, input.samples, output.record
        ),
    shell:
        "python {params.program:q} --model {params.model} --model-name {params.name}"
        " --tokenizer {input.tokenizer} {params.reading_flags} {params.benchmark_flags}"
        " --threads {threads} &> {log}"


rule divergence:
    """A model against the derivative at every token that is read, from one load of it."""
    input:
        model=lambda w: experiment.manifest(w.model),
        weights=ancient(lambda w: experiment.files(w.model)),
        adapter=lambda w: [adapter.record for adapter in experiment.unmerged(w.model)],
        factors=ancient(
            lambda w: [file for one in experiment.unmerged(w.model) for file in one.files]
        ),
        tokenizer_manifest=experiment.manifest(experiment.subject["tokenizer"]),
        tokenizer=ancient(experiment.tokenizer),
        reference=[layout.divergence(benchmark).reference for benchmark in experiment.benchmarks],
        passages=ancient(
            [
                path
                for benchmark in experiment.benchmarks
                for path in layout.divergence(benchmark).reference_files
            ]
        ),
        states=ancient([layout.divergence(benchmark).states for benchmark in experiment.benchmarks]),
    output:
        tables=[
            layout.divergence(benchmark).tokens("{model}") for benchmark in experiment.benchmarks
        ],
        records=[
            layout.divergence(benchmark).record("{model}") for benchmark in experiment.benchmarks
        ],
    log:
        layout.log("divergence/{model}"),
    benchmark:
        layout.timing("divergence/{model}")
    priority: 1
    conda:
        "../../envs/divergence.yaml"
    threads: experiment.sampling["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.sampling["mem_mb"] * attempt,
        runtime=lambda w, attempt: experiment.sampling["runtime"] * attempt,
        gpu=int(experiment.sampling["device"] == "cuda"),
    params:
        program=shipped("scripts/divergence.py"),
        code=code_digest("scripts/divergence.py"),
        model=subpath(input.model, parent=True),
        adapter_flag=lambda w, input: folder_flag("adapter", input.adapter),
        serving_flags=lambda w: divergence.served_flags(experiment, w.model),
        reference_flags=lambda w, input, output: divergence.reference_flags(
            input.reference, output.tables
        ),
    shell:
        "python {params.program:q} --model {params.model} --model-name {wildcards.model}"
        " {params.adapter_flag} --tokenizer {input.tokenizer} {params.serving_flags}"
        " {params.reference_flags}"
        " --threads {threads} &> {log}"


rule divergence_metrics:
    """How far each model is, which ranks differ, what rank is enough."""
    input:
        tables=[layout.divergence("{benchmark}").tokens(model) for model in experiment.read],
        records=[layout.divergence("{benchmark}").record(model) for model in experiment.read],
        sizes=[layout.delta(experiment.subject["delta"]).descriptions]
        * bool(divergence.equal_bytes(experiment)[1]),
    output:
        tables=[layout.divergence("{benchmark}").summary(table) for table in divergence.TABLES],
    log:
        layout.log("divergence-metrics/{benchmark}"),
    conda:
        "../../envs/grading.yaml"
    threads: 1
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 15 * attempt,
    params:
        program=shipped("scripts/divergence_metrics.py"),
        code=code_digest("scripts/divergence_metrics.py"),
        table_flags=lambda w, input: divergence.metrics_flags(experiment, input.tables),
        folder=lambda w, output: Path(output.tables[0]).parent,
    shell:
        "python {params.program:q} --benchmark {wildcards.benchmark} {params.table_flags}"
        " --output {params.folder} &> {log}"


rule locate:
    """Where the change lives: its parts taken out of the derivative, and put into the base."""
    input:
        base=experiment.manifest(experiment.base),
        derivative=experiment.manifest(experiment.derivative),
        weights=ancient(experiment.files(experiment.base, experiment.derivative)),
        reference=layout.divergence("{benchmark}").reference,
        passages=ancient(layout.divergence("{benchmark}").reference_files),
        states=ancient(layout.divergence("{benchmark}").states),
    output:
        table=layout.divergence("{benchmark}").located,
        record=layout.divergence("{benchmark}").located_record,
    log:
        layout.log("locate/{benchmark}"),
    benchmark:
        layout.timing("locate/{benchmark}")
    conda:
        "../../envs/divergence.yaml"
    threads: experiment.sampling["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.sampling["mem_mb"] * attempt,
        runtime=lambda w, attempt: experiment.sampling["runtime"] * attempt,
        gpu=int(experiment.sampling["device"] == "cuda"),
    params:
        program=shipped("scripts/locate.py"),
        code=code_digest("scripts/locate.py"),
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
        reference=subpath(input.reference, parent=True),
        reading_flags=divergence.locate_flags(experiment),
    shell:
        "python {params.program:q} --base {params.base} --derivative {params.derivative}"
        " --reference {params.reference} {params.reading_flags} --threads {threads} --output {output.table} &> {log}"
