# Real sessions of several mice, from a folder of binned counts. Single sessions: MtM and temporal
# masking beside baselines. New animals: pre-trained on all other mice, against from scratch, with
# few trials to train on.
#
#     snakemake -s pipelines/real.smk --configfile pipelines/workflows/real.yaml \
#         --profile pipelines/profiles/local --config source=FOLDER_OF_NPZ
include: "common.smk"


SINGLE, NEW, MICE = config["single"], config["animals"], config["mice"]
ONE = str(DATASET.source.path)
SINGLE_TABLE = f"{RESULTS}/sessions"
METHODS = "mtm", "temporal"


def first_sessions(plan):
    """So many sessions of each mouse."""
    return [eid for eids in MICE.values() for eid in eids[: plan["sessions"]]]


def new_scores(share):
    """Scores with so many percent of the trials, in the order of a table's rows."""
    seeds = NEW["seeds"]
    names = [f"{part}-{share}-{seed}" for part in ("tuned", "scratch") for seed in seeds]
    names.append(f"{NEW['baseline']}-{share}")
    return [
        f"{RUNS}/new/{eid}/{name}/metrics.json" for name in names for eid in first_sessions(NEW)
    ]


def trials(wildcards):
    """A split with so many percent of the trials to train on, and 5 to validate."""
    train = int(wildcards.share)
    fractions = f"[{train / 100}, 0.05, {(95 - train) / 100}]"
    return [f"data.split={{fractions: {fractions}, kind: random, seed: 42}}"]


def other_mice(wildcards):
    """An expression for all sessions of all mice but one."""
    others = [eid for name, eids in MICE.items() if name != wildcards.mouse for eid in eids]
    return f"eid in {others}"


def other_mice_of(wildcards):
    """The training on all mice but the one whose session this is."""
    mouse = next(name for name, eids in MICE.items() if wildcards.eid in eids)
    return f"{RUNS}/others/{mouse}/training.json"


SINGLE_SCORES = [
    f"{RUNS}/single/{eid}/{name}/metrics.json"
    for name in [f"{method}-{seed}" for method in METHODS for seed in SINGLE["seeds"]]
    + config["baselines"]
    for eid in first_sessions(SINGLE)
]
# The report shows these in detail: one session, one seed.
SINGLE_SHOWN = [
    f"{RUNS}/single/{first_sessions(SINGLE)[0]}/{name}"
    for name in (*(f"{m}-{SINGLE['seeds'][0]}" for m in METHODS), config["baselines"][0])
]


wildcard_constraints:
    mouse="|".join(MICE),
    share=r"\d+",
    baseline="|".join(dict.fromkeys([*config["baselines"], NEW["baseline"]])),


localrules:
    real,
    single_table,
    single_report,
    new_table,
    new_report,


rule real:
    default_target: True
    input:
        f"{SINGLE_TABLE}/report.html",
        expand(f"{RESULTS}/animals-{{share}}/report.html", share=NEW["shares"]),


# What is there already stays; a session appears whole.
rule layout:
    output:
        touch(LAID_OUT),
    params:
        source=config["source"],
        one=ONE,
    shell:
        "python -m ibl_mtm.one_files.binned {params.source:q} {params.one:q} --lab {config[lab]:q}"


rule single_report:
    input:
        f"{SINGLE_TABLE}/results.json",
    output:
        f"{SINGLE_TABLE}/report.html",
    params:
        runs=SINGLE_SHOWN,
    shell:
        "ibl-mtm report {params.runs:q} --results {SINGLE_TABLE:q} --out {output:q}"


rule single_table:
    input:
        SINGLE_SCORES,
    output:
        f"{SINGLE_TABLE}/results.json",
    params:
        runs=folders(SINGLE_SCORES),
    shell:
        "ibl-mtm results table {params.runs:q} --kind sessions --out {SINGLE_TABLE:q} "
        "--command {COMMAND:q} --credit {config[credit]:q}"


rule single_training:
    input:
        READY,
    output:
        RUNS + "/single/{eid}/{method}-{seed}/training.json",
    params:
        config=config_of,
        run=folder,
        where="eid == '{eid}'",
        settings=lambda w: settings(w, config["settings"], SINGLE["settings"]),
    threads: THREADS
    shell:
        TRAIN


# Fitted to the units and trials of MtM, once: seeds share them.
rule single_baseline:
    input:
        RUNS + f"/single/{{eid}}/mtm-{SINGLE['seeds'][0]}/training.json",
    output:
        RUNS + "/single/{eid}/{baseline}/metrics.json",
    params:
        run=folder,
        like=lambda w, input: str(Path(input[0]).parent),
        tasks=tasks,
    threads: THREADS
    shell:
        "ibl-mtm eval --baseline {wildcards.baseline} --like {params.like:q} --cache {CACHE:q} "
        "--session {wildcards.eid} --out {params.run:q} {params.tasks}"


rule new_report:
    input:
        RESULTS + "/animals-{share}/results.json",
    output:
        RESULTS + "/animals-{share}/report.html",
    params:
        results=folder,
        runs=lambda w: [
            f"{RUNS}/new/{first_sessions(NEW)[0]}/{part}-{w.share}-{NEW['seeds'][0]}"
            for part in ("tuned", "scratch")
        ],
    shell:
        "ibl-mtm report {params.runs:q} --results {params.results:q} --out {output:q}"


rule new_table:
    input:
        lambda w: new_scores(w.share),
    output:
        RESULTS + "/animals-{share}/results.json",
    params:
        results=folder,
        runs=lambda w: folders(new_scores(w.share)),
    shell:
        "ibl-mtm results table {params.runs:q} --kind generalization --out {params.results:q} "
        "--command {COMMAND:q} --credit {config[credit]:q}"


# The longest trainings, and others wait for them. Linear dynamics belong to a session: what is
# fine-tuned has its own fitted.
rule new_pretraining:
    input:
        READY,
    output:
        RUNS + "/others/{mouse}/training.json",
    params:
        config=config["methods"]["mtm"],
        run=folder,
        where=other_mice,
        settings=lambda w: settings(
            w, config["settings"], ["model.dynamics=0"], NEW["pretrain"], method="mtm"
        ),
    threads: THREADS
    priority: 10
    shell:
        TRAIN


rule new_tuning:
    input:
        ready=READY,
        source=other_mice_of,
    output:
        RUNS + "/new/{eid}/tuned-{share}-{seed}/training.json",
    params:
        config=config["methods"]["mtm"],
        run=folder,
        where="eid == '{eid}'",
        source=lambda w, input: str(Path(input.source).parent),
        settings=lambda w: settings(
            w, config["settings"], trials(w), NEW["settings"], NEW["tuned"], method="mtm"
        ),
    threads: THREADS
    shell:
        TRAIN + " --init {params.source:q}"


rule new_scratch:
    input:
        READY,
    output:
        RUNS + "/new/{eid}/scratch-{share}-{seed}/training.json",
    params:
        config=config["methods"]["mtm"],
        run=folder,
        where="eid == '{eid}'",
        settings=lambda w: settings(
            w, config["settings"], trials(w), NEW["settings"], NEW["scratch"], method="mtm"
        ),
    threads: THREADS
    shell:
        TRAIN


rule new_baseline:
    input:
        RUNS + f"/new/{{eid}}/scratch-{{share}}-{NEW['seeds'][0]}/training.json",
    output:
        RUNS + "/new/{eid}/{baseline}-{share}/metrics.json",
    params:
        run=folder,
        like=lambda w, input: str(Path(input[0]).parent),
        tasks=tasks,
    threads: THREADS
    shell:
        "ibl-mtm eval --baseline {wildcards.baseline} --like {params.like:q} --cache {CACHE:q} "
        "--session {wildcards.eid} --out {params.run:q} {params.tasks}"


ruleorder: single_baseline > evaluate
ruleorder: new_baseline > evaluate
