# MtM and temporal masking, pre-trained on all animals, on animals that they have not seen:
# activity, choice and whisker motion energy, against training from scratch.
#
#     snakemake -s pipelines/generalization.smk --configfile pipelines/workflows/laptop.yaml \
#         --profile pipelines/profiles/local
include: "common.smk"
include: "animals.smk"


TABLE = f"{RESULTS}/generalization"
SCORES = [
    score
    for method in ("mtm", "temporal")
    for animals in (COUNTS[-1], 0)
    for score in held_out_scores(method, animals)
]


localrules:
    generalization_table,
    generalization_report,


rule generalization_report:
    default_target: True
    input:
        f"{TABLE}/results.json",
    output:
        f"{TABLE}/report.html",
    params:
        runs=folders(shown(SCORES)),
    shell:
        "ibl-mtm report {params.runs:q} --results {TABLE:q} --out {output:q}"


rule generalization_table:
    input:
        SCORES,
    output:
        f"{TABLE}/results.json",
    params:
        runs=folders(SCORES),
    shell:
        "ibl-mtm results table {params.runs:q} --kind generalization --out {TABLE:q} "
        "--command {COMMAND:q}"
