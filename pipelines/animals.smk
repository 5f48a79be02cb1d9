# Pre-training on many animals, fine-tuning on held-out ones, and training on those from scratch.
# Two workflows share these trainings: what one has made, the other finds.
PRETRAIN, HELD_OUT = config["pretrain"], config["held_out"]
COUNTS = sorted(PRETRAIN["animals"])
ANIMALS = sessions("finetune")[: HELD_OUT["animals"]]


def held_out_scores(method, animals):
    """Scores of a method on every held-out animal; no animals: trained from scratch."""
    name = f"{method}-{animals}" if animals else method
    part = "tuned" if animals else "scratch"
    return [
        f"{RUNS}/{part}/{eid}/{name}-{seed}/metrics.json"
        for eid in ANIMALS
        for seed in HELD_OUT["seeds"]
    ]


def shown(scores):
    """Those of the first animal and seed: what a report shows in detail."""
    return [f for f in scores if ANIMALS[0] in f and f"-{HELD_OUT['seeds'][0]}/" in f]


def first_animals(wildcards):
    """An expression for the first so many animals to pre-train on."""
    chosen = sessions("pretrain")[: int(wildcards.animals)]
    if len(chosen) < int(wildcards.animals):
        raise WorkflowError(f"{config['dataset']} has {len(chosen)} animals to pre-train on")
    return f"eid in {chosen}"


# The longest trainings, and others wait for them.
rule pretrain:
    input:
        READY,
    output:
        RUNS + "/pretrained/{method}-{animals}/training.json",
    params:
        config=config_of,
        run=folder,
        where=first_animals,
        settings=lambda w: settings(
            w, PRETRAIN["settings"], PRETRAIN["animals"][int(w.animals)]
        ),
    threads: THREADS
    priority: 10
    shell:
        TRAIN


rule finetune:
    input:
        ready=READY,
        source=RUNS + "/pretrained/{method}-{animals}/training.json",
    output:
        RUNS + "/tuned/{eid}/{method}-{animals}-{seed}/training.json",
    params:
        config=config_of,
        run=folder,
        where="eid == '{eid}'",
        source=lambda w, input: str(Path(input.source).parent),
        settings=lambda w: settings(w, HELD_OUT["settings"], HELD_OUT["tuned"]),
    threads: THREADS
    shell:
        TRAIN + " --init {params.source:q}"


rule scratch:
    input:
        READY,
    output:
        RUNS + "/scratch/{eid}/{method}-{seed}/training.json",
    params:
        config=config_of,
        run=folder,
        where="eid == '{eid}'",
        settings=lambda w: settings(w, HELD_OUT["settings"], HELD_OUT["scratch"]),
    threads: THREADS
    shell:
        TRAIN
