# A short recording in contiguous windows: MtM against a regression, under several random splits.
#
#     snakemake -s pipelines/recording.smk --configfile pipelines/workflows/recording.yaml \
#         --profile pipelines/profiles/local
include: "common.smk"


TABLE = f"{RESULTS}/recording"
MODELS, BASELINES = (
    [f"{RUNS}/recording/{what}-{split}/metrics.json" for split in config["splits"]]
    for what in ("mtm", config["baseline"])
)


localrules:
    recording_table,
    recording_report,


rule recording_report:
    default_target: True
    input:
        f"{TABLE}/results.json",
    output:
        f"{TABLE}/report.html",
    params:
        runs=folders([MODELS[0], BASELINES[0]]),
    shell:
        "ibl-mtm report {params.runs:q} --results {TABLE:q} --out {output:q}"


rule recording_table:
    input:
        MODELS + BASELINES,
    output:
        f"{TABLE}/results.json",
    params:
        runs=folders(MODELS + BASELINES),
    shell:
        "ibl-mtm results table {params.runs:q} --kind recording --out {TABLE:q} --command {COMMAND:q}"


rule recording_training:
    input:
        READY,
    output:
        RUNS + "/recording/{method}-{split}/training.json",
    params:
        config=config_of,
        run=folder,
        where="n_units > 0",
        settings=lambda w: settings(
            w, ["data.split.kind=random", f"data.split.seed={w.split}"], config["settings"]
        ),
    threads: THREADS
    shell:
        TRAIN


# Fitted to the units and windows of the model with the same split.
rule recording_baseline:
    input:
        RUNS + "/recording/mtm-{split}/training.json",
    output:
        RUNS + "/recording/" + config["baseline"] + "-{split}/metrics.json",
    params:
        run=folder,
        like=RUNS + "/recording/mtm-{split}",
    threads: THREADS
    shell:
        "ibl-mtm eval --baseline {config[baseline]:q} --like {params.like:q} --cache {CACHE:q} "
        "--out {params.run:q}"


ruleorder: recording_baseline > evaluate
