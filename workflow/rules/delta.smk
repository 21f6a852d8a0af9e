"""What training changed: the difference of every projection matrix, factored once."""


rule delta_svd:
    """All singular values of a delta, and what adapters of any rank are built from."""
    input:
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.files(*experiment.pair(w.delta))),
    output:
        basis=directory(layout.delta("{delta}").basis),
        manifest=layout.delta("{delta}").manifest,
        ledger=layout.delta("{delta}").ledger,
    log:
        layout.log("delta/{delta}"),
    benchmark:
        layout.timing("delta/{delta}")
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.factoring["mem_mb"] * attempt,
        runtime=lambda w, attempt: 60 * attempt,
        gpu=int(experiment.factoring["device"] == "cuda"),
    params:
        program=shipped("scripts/delta_svd.py"),
        code=code_digest("scripts/delta_svd.py"),
        leave_out=lambda w: experiment.left_out(w.delta),
        device=experiment.factoring["device"],
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
        folder=subpath(output.manifest, parent=True),
    shell:
        "python {params.program:q} --base {params.base} --derivative {params.derivative}"
        " --leave-out {params.leave_out:q} --device {params.device} --threads {threads}"
        " --output {params.folder} &> {log}"


rule delta_statistics:
    """What a delta says: its spectrum, and a line of statistics a matrix."""
    input:
        delta=layout.delta("{delta}").manifest,
        basis=ancient(layout.delta("{delta}").basis),
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.files(*experiment.pair(w.delta))),
    output:
        spectrum=layout.delta("{delta}").spectrum,
        summary=layout.delta("{delta}").summary,
        record=layout.delta("{delta}").statistics,
    log:
        layout.log("statistics/{delta}"),
    benchmark:
        layout.timing("statistics/{delta}")
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.factoring["mem_mb"] * attempt,
        runtime=lambda w, attempt: 60 * attempt,
        gpu=int(experiment.factoring["device"] == "cuda"),
    params:
        program=shipped("scripts/delta_statistics.py"),
        code=code_digest("scripts/delta_statistics.py"),
        details_flag=flags({"details": experiment.config["details"]}),
        device=experiment.factoring["device"],
        delta=subpath(input.delta, parent=True),
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
    shell:
        "python {params.program:q} --delta {params.delta} --base {params.base}"
        " --derivative {params.derivative} {params.details_flag}"
        " --device {params.device} --threads {threads} &> {log}"
