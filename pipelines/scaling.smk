# MtM, pre-trained on more and more animals, on animals that it has not seen.
#
#     snakemake -s pipelines/scaling.smk --configfile pipelines/workflows/laptop.yaml \
#         --profile pipelines/profiles/local
include: "common.smk"
include: "animals.smk"


TABLE = f"{RESULTS}/scaling"
SCORES = [score for animals in (0, *COUNTS) for score in held_out_scores("mtm", animals)]


localrules:
    scaling_table,
    scaling_report,


rule scaling_report:
    default_target: True
    input:
        f"{TABLE}/results.json",
    output:
        f"{TABLE}/report.html",
    params:
        runs=folders(shown(SCORES)),
    shell:
        "ibl-mtm report {params.runs:q} --results {TABLE:q} --out {output:q}"


rule scaling_table:
    input:
        SCORES,
    output:
        f"{TABLE}/results.json",
    params:
        runs=folders(SCORES),
    shell:
        "ibl-mtm results table {params.runs:q} --kind scaling --out {TABLE:q} --command {COMMAND:q}"
