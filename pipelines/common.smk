# What the workflows share: where things lie, the sessions, ingest and evaluation.
# Paths start from the folder that snakemake is called in: the checkout.
import os
import shlex
from pathlib import Path

from ibl_mtm.config.catalog import load_catalog
from ibl_mtm.config.sources import SimulatedSource

if not config:
    raise WorkflowError("give a size: --configfile pipelines/workflows/laptop.yaml")

OUT, THREADS = config["out"], config.get("threads", 1)
RUNS, RESULTS, CACHE = f"{OUT}/runs", f"{OUT}/results", f"{OUT}/cache.zarr"
READY = f"{OUT}/cache.ingested"
# Of a workflow that lays files out itself.
LAID_OUT = [f"{OUT}/one.written"] if "source" in config else []
DATASET = load_catalog(Path(config["catalog"])).dataset(config["dataset"])
SIMULATED = isinstance(DATASET.source, SimulatedSource)
ORACLE = shlex.join(["--oracle", f"{OUT}/cache.one"]) if SIMULATED else ""
ACTIVITY = "co_smoothing", "forward_prediction", "intra_region", "inter_region"

# Methods, as they stand in a folder's name and in a table.
NAMES = {
    "mtm": "MtM",
    "unprompted": "MtM without prompts",
    "temporal": "temporal masking",
    "neuron": "neuron masking",
    "causal": "causal masking",
    "intra_region": "intra-region masking",
    "inter_region": "inter-region masking",
}

# How all of it is made again, for the results.
COMMAND = shlex.join(
    ["snakemake", "-s", os.path.relpath(workflow.main_snakefile)]
    + ["--configfile", *(os.path.relpath(file) for file in workflow.configfiles)]
    + ["--profile", "pipelines/profiles/local"]
)

# Goes on where a training stopped, and begins where none was begun.
TRAIN = (
    "ibl-mtm train {params.config:q} --cache {CACHE:q} --run {params.run:q} --where {params.where:q} "
    "--resume --overwrite {params.settings}"
)


wildcard_constraints:
    eid="[0-9a-f-]{36}",
    method="|".join(NAMES),
    animals=r"\d+",
    seed=r"\d+",


def sessions(role):
    """Session ids of a role, in the order of the catalog."""
    return [entry.eid for entry in DATASET.sessions or () if entry.role == role]


def folder(wildcards, output):
    """The run folder that a rule's first output lies in."""
    return str(Path(output[0]).parent)


def folders(files):
    """Run folders of scores."""
    return [str(Path(file).parent) for file in files]


def config_of(wildcards):
    """The configuration of a method at this size."""
    return config["methods"][wildcards.method]


def settings(wildcards, *lists, method=None):
    """KEY=VALUE for a training: its name in tables, its seed, and lists of further ones."""
    seed = wildcards.get("seed", 0)
    chosen = [f"name={NAMES[method or wildcards.method]}", f"seed={seed}"]
    return shlex.join([*chosen, *(setting for more in lists for setting in more)])


def tasks(wildcards):
    """What a run is asked for; nothing said: what `ibl-mtm eval` asks for by itself."""
    ablation = ACTIVITY if wildcards.get("run", "").startswith("ablation") else ()
    return " ".join(f"--task {task}" for task in config.get("tasks", ablation))


# The cache is never declared as output: what fails half way must not be deleted.
rule ingest:
    input:
        LAID_OUT,
    output:
        touch(READY),
    threads: config.get("ingest_threads", 2)
    shell:
        "ibl-mtm ingest {config[dataset]:q} --catalog {config[catalog]:q} --cache {CACHE:q} "
        "--workers {threads}"


# training.json is the last file that a training writes, metrics.json the last of an evaluation.
rule evaluate:
    input:
        RUNS + "/{run}/training.json",
    output:
        RUNS + "/{run}/metrics.json",
    params:
        run=folder,
        tasks=tasks,
    threads: THREADS
    shell:
        "ibl-mtm eval {params.run:q} --cache {CACHE:q} {ORACLE} {params.tasks}"
