"""What training changed: the difference of every projection matrix, factored once."""


rule delta_svd:
    """All singular values of a delta, and what adapters of any rank are built from."""
    input:
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.weights(*experiment.pair(w.delta))),
    output:
        basis=directory("results/{experiment}/delta/{delta}/basis"),
        manifest="results/{experiment}/delta/{delta}/manifest.json",
        ledger="results/{experiment}/delta/{delta}/ledger.parquet",
    log:
        "results/{experiment}/logs/delta/{delta}.log",
    benchmark:
        "results/{experiment}/timings/delta/{delta}.tsv"
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=experiment.factoring["mem_mb"],
        runtime=lambda w, attempt: 60 * attempt,
        gpu=int(experiment.factoring["device"] == "cuda"),
    params:
        program=shipped("scripts/delta_svd.py"),
        code=code_digest("scripts/delta_svd.py"),
        flags=lambda w: experiment.delta_flags(w.delta),
        device=experiment.factoring["device"],
    shell:
        "python {params.program:q} --base $(dirname {input.base})"
        " --derivative $(dirname {input.derivative}) {params.flags}"
        " --device {params.device} --threads {threads}"
        " --output $(dirname {output.manifest}) &> {log}"


rule delta_statistics:
    """What a delta says: its spectrum, and a line of statistics a matrix."""
    input:
        delta="results/{experiment}/delta/{delta}/manifest.json",
        basis=ancient("results/{experiment}/delta/{delta}/basis"),
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.weights(*experiment.pair(w.delta))),
    output:
        spectrum="results/{experiment}/delta/{delta}/spectrum.parquet",
        summary="results/{experiment}/delta/{delta}/summary.parquet",
        record="results/{experiment}/delta/{delta}/statistics.json",
    log:
        "results/{experiment}/logs/statistics/{delta}.log",
    benchmark:
        "results/{experiment}/timings/statistics/{delta}.tsv"
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=experiment.factoring["mem_mb"],
        runtime=lambda w, attempt: 60 * attempt,
        gpu=int(experiment.factoring["device"] == "cuda"),
    params:
        program=shipped("scripts/delta_statistics.py"),
        code=code_digest("scripts/delta_statistics.py"),
        flags=experiment.statistics_flags,
        device=experiment.factoring["device"],
    shell:
        "python {params.program:q} --delta $(dirname {input.delta}) --base $(dirname {input.base})"
        " --derivative $(dirname {input.derivative}) {params.flags}"
        " --device {params.device} --threads {threads} &> {log}"
