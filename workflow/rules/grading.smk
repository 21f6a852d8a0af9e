"""What each completion answered, and whether that is right."""


rule grade:
    """The answer of every completion of a model, and whether it is right."""
    input:
        samples=lambda w: experiment.samples(w.benchmark, w.model),
        problems=layout.problems("{benchmark}"),
    output:
        grades=layout.grades("{benchmark}", "{model}"),
    log:
        layout.log("grades/{benchmark}/{model}"),
    benchmark:
        layout.timing("grades/{benchmark}/{model}")
    conda:
        "../../envs/grading.yaml"
    threads: lambda w: experiment.grading_workers(w.benchmark)
    resources:
        mem_mb=lambda w, attempt: 4000 * attempt,
        runtime=lambda w, attempt: 30 * attempt,
    params:
        program=shipped("scripts/grade.py"),
        code=code_digest("scripts/grade.py"),
        grading_flags=lambda w: experiment.grading_flags(w.benchmark),
    shell:
        "python {params.program:q} --samples {input.samples} --problems {input.problems}"
        " {params.grading_flags} --workers {threads} --output {output.grades} &> {log}"
