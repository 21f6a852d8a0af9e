"""Models made from the base and the top directions of the delta."""


rule build_adapter:
    """A delta cut to a rank as a PEFT adapter: r16 its top directions, or a control."""
    input:
        delta=layout.delta("{delta}").manifest,
        basis=ancient(layout.delta("{delta}").basis),
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.files(*experiment.pair(w.delta))),
    output:
        adapter=layout.adapter("{delta}", "{adapter}").weights,
        config=layout.adapter("{delta}", "{adapter}").config,
        ranks=layout.adapter("{delta}", "{adapter}").record,
    log:
        layout.log("adapters/{delta}-{adapter}"),
    benchmark:
        layout.timing("adapters/{delta}-{adapter}")
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.factoring["mem_mb"] * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/build_adapter.py"),
        code=code_digest("scripts/build_adapter.py"),
        rank=lambda w: experiment.adapters[w.adapter].rank,
        control_flags=lambda w: experiment.control_flags(w.adapter),
        padding_flag=lambda w: flags({"pad_rank": experiment.adapters[w.adapter].padded}),
        delta=subpath(input.delta, parent=True),
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
        folder=subpath(output.adapter, parent=True),
    shell:
        "python {params.program:q} --delta {params.delta} --base {params.base}"
        " --derivative {params.derivative} --rank {params.rank} {params.control_flags}"
        " {params.padding_flag} --threads {threads} --output {params.folder} &> {log}"


rule build_variant:
    """A complete checkpoint: base, adapter and biases, other tensors copied or kept."""
    input:
        adapter=lambda w: [adapter.record for adapter in experiment.adapter(w.variant)],
        base=experiment.manifest(experiment.base),
        derivative=experiment.manifest(experiment.derivative),
        tokenizer_manifest=experiment.manifest(experiment.subject["tokenizer"]),
        tokenizer=ancient(experiment.tokenizer),
        weights=ancient(experiment.files(experiment.base, experiment.derivative)),
        generation=ancient(layout.model(experiment.derivative).tokenizer),
        factors=ancient(
            lambda w: [file for one in experiment.adapter(w.variant) for file in one.files]
        ),
    output:
        weights=(str if experiment.config["keep_variants"] else temp)(
            layout.variant("{variant}").weights("model.safetensors")
        ),
        config=layout.variant("{variant}").config,
        manifest=layout.variant("{variant}").manifest,
        fidelity=layout.variant("{variant}").fidelity,
    log:
        layout.log("variants/{variant}"),
    benchmark:
        layout.timing("variants/{variant}")
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.factoring["mem_mb"] * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/build_variant.py"),
        code=code_digest("scripts/build_variant.py"),
        other=lambda w: experiment.variants[w.variant].other,
        dtype=lambda w: experiment.variants[w.variant].dtype,
        carrier_flag=lambda w: flags({"carrier": experiment.variants[w.variant].unmerged}),
        leave_out=experiment.left_out(experiment.subject["delta"]),
        adapter_flag=lambda w, input: folder_flag("adapter", input.adapter),
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
        folder=subpath(output.manifest, parent=True),
    shell:
        "python {params.program:q} --base {params.base} --derivative {params.derivative}"
        " {params.adapter_flag} {params.carrier_flag} --other {params.other}"
        " --dtype {params.dtype} --leave-out {params.leave_out:q}"
        " --tokenizer {input.tokenizer} --threads {threads} --output {params.folder} &> {log}"
