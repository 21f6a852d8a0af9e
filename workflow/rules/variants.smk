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


rule build_description:
    """A delta in the bytes of a rank, but described otherwise: its largest entries, few bits."""
    input:
        delta=layout.delta("{delta}").manifest,
        basis=ancient(layout.delta("{delta}").basis),
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.files(*experiment.pair(w.delta))),
    output:
        packed=layout.description("{delta}", "{description}").packed,
        record=layout.description("{delta}", "{description}").record,
    log:
        layout.log("descriptions/{delta}-{description}"),
    benchmark:
        layout.timing("descriptions/{delta}-{description}")
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.factoring["mem_mb"] * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/build_description.py"),
        code=code_digest("scripts/build_description.py"),
        kind=lambda w: experiment.descriptions[w.description].kind,
        rank_flag=lambda w: flags({"rank": experiment.descriptions[w.description].rank or None}),
        delta=subpath(input.delta, parent=True),
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
        folder=subpath(output.record, parent=True),
    shell:
        "python {params.program:q} --delta {params.delta} --base {params.base}"
        " --derivative {params.derivative} --kind {params.kind} {params.rank_flag}"
        " --threads {threads} --output {params.folder} &> {log}"


rule description_errors:
    """What other descriptions of a delta cost and miss at the bytes of every rank: weights alone."""
    input:
        delta=layout.delta("{delta}").manifest,
        basis=ancient(layout.delta("{delta}").basis),
        base=lambda w: experiment.manifest(experiment.deltas[w.delta]["base"]),
        derivative=lambda w: experiment.manifest(experiment.deltas[w.delta]["derivative"]),
        weights=ancient(lambda w: experiment.files(*experiment.pair(w.delta))),
    output:
        table=layout.delta("{delta}").descriptions,
    log:
        layout.log("description-errors/{delta}"),
    benchmark:
        layout.timing("description-errors/{delta}")
    conda:
        "../../envs/delta.yaml"
    threads: experiment.factoring["threads"]
    resources:
        mem_mb=lambda w, attempt: experiment.factoring["mem_mb"] * attempt,
        runtime=lambda w, attempt: 60 * attempt,
    params:
        program=shipped("scripts/description_errors.py"),
        code=code_digest("scripts/description_errors.py"),
        kinds=experiment.described,
        ranks=experiment.bytes_of_ranks,
        delta=subpath(input.delta, parent=True),
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
    shell:
        "python {params.program:q} --delta {params.delta} --base {params.base}"
        " --derivative {params.derivative} --kinds {params.kinds} --ranks {params.ranks}"
        " --threads {threads} &> {log}"


rule build_variant:
    """A complete checkpoint: base, adapter and biases, other tensors copied or kept."""
    input:
        adapter=lambda w: [adapter.record for adapter in experiment.adapter(w.variant)],
        description=lambda w: [found.record for found in experiment.description_of(w.variant)],
        base=experiment.manifest(experiment.base),
        derivative=experiment.manifest(experiment.derivative),
        tokenizer_manifest=experiment.manifest(experiment.subject["tokenizer"]),
        tokenizer=ancient(experiment.tokenizer),
        weights=ancient(experiment.files(experiment.base, experiment.derivative)),
        generation=ancient(layout.model(experiment.derivative).tokenizer),
        factors=ancient(
            lambda w: [file for one in experiment.adapter(w.variant) for file in one.files]
        ),
        packed=ancient(lambda w: [found.packed for found in experiment.description_of(w.variant)]),
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
        unmerged_flag=lambda w: flags({"unmerged": experiment.variants[w.variant].unmerged}),
        leave_out=experiment.left_out(experiment.subject["delta"]),
        change_flag=lambda w, input: folder_flag("adapter", input.adapter)
        or folder_flag("description", input.description),
        base=subpath(input.base, parent=True),
        derivative=subpath(input.derivative, parent=True),
        folder=subpath(output.manifest, parent=True),
    shell:
        "python {params.program:q} --base {params.base} --derivative {params.derivative}"
        " {params.change_flag} {params.unmerged_flag} --other {params.other}"
        " --dtype {params.dtype} --leave-out {params.leave_out:q}"
        " --tokenizer {input.tokenizer} --threads {threads} --output {params.folder} &> {log}"
