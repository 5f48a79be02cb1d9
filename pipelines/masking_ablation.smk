# One session, seven trainings, four tasks: what each masking scheme is worth.
#
#     snakemake -s pipelines/masking_ablation.smk --configfile pipelines/workflows/laptop.yaml \
#         --profile pipelines/profiles/local
include: "common.smk"


PLAN = config["ablation"]
TABLE = f"{RESULTS}/ablation"
SCORES = [
    f"{RUNS}/ablation/{eid}/{method}-{seed}/metrics.json"
    for method in NAMES
    for eid in sessions("pretrain")[: PLAN["sessions"]]
    for seed in PLAN["seeds"]
]
# The report shows these in detail: one session, one seed.
SHOWN = [
    f"{RUNS}/ablation/{sessions('pretrain')[0]}/{method}-{PLAN['seeds'][0]}"
    for method in ("mtm", "unprompted", "temporal")
]


localrules:
    ablation_table,
    ablation_report,


rule ablation_report:
    default_target: True
    input:
        table=f"{TABLE}/results.json",
    output:
        f"{TABLE}/report.html",
    params:
        runs=SHOWN,
    shell:
        "ibl-mtm report {params.runs:q} --results {TABLE:q} --out {output:q}"


rule ablation_table:
    input:
        SCORES,
    output:
        f"{TABLE}/results.json",
    params:
        runs=folders(SCORES),
    shell:
        "ibl-mtm results table {params.runs:q} --kind ablation --out {TABLE:q} --command {COMMAND:q}"


rule ablation_training:
    input:
        READY,
    output:
        RUNS + "/ablation/{eid}/{method}-{seed}/training.json",
    params:
        config=config_of,
        run=folder,
        where="eid == '{eid}'",
        settings=lambda w: settings(w, PLAN["settings"]),
    threads: THREADS
    shell:
        TRAIN
