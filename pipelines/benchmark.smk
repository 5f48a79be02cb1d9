# BrainWideBench: a model adapted to every recording, its predictions scored, checked and packed.
#
#     snakemake -s pipelines/benchmark.smk --configfile pipelines/workflows/benchmark.yaml \
#         --profile pipelines/profiles/local
# A job for each submission, suite and recording; what one has finished is never declared as its
# output, so that nothing is deleted before it is run again.
import re
from pathlib import Path

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict.registry import BASELINES
from ibl_mtm.brainsets.layout import EVAL_RECORDING_IDS

if not config:
    raise WorkflowError("give settings: --configfile pipelines/workflows/benchmark.yaml")

OUT, DATA, THREADS = config["out"], config["data"], config.get("threads", 1)
PREDICTIONS, DONE = f"{OUT}/predictions", f"{OUT}/done"
EVERY = BenchmarkData(Path(DATA)).recordings
RECORDINGS = config.get("recordings") or EVERY
LABELS = config["labels"]
SUITES = config.get("suites", ["ts1", "ts2", "ts3"])


def suites_of(label):
    """The suites that a label's jobs are of: a baseline may know but one."""
    named = re.search(r"--baseline[ =](\S+)", LABELS[label] or "")
    known = BASELINES[named[1]].suites if named and named[1] in BASELINES else SUITES
    return [suite for suite in SUITES if suite in known]


MULTI = [f"{label}_multi" for label in LABELS if "ts3" in suites_of(label)]
# The benchmark takes no part of its recordings: there is nothing to upload of some.
PART = set(RECORDINGS) < set(EVERY) or 0 < len(set(EVAL_RECORDING_IDS) - set(RECORDINGS)) < 29
SUBMISSIONS = [] if PART else [*LABELS, *MULTI]


localrules:
    page,
    check,
    pack,
    score,


wildcard_constraints:
    label="|".join(map(re.escape, LABELS)),
    submission="|".join(map(re.escape, [*LABELS, *MULTI])),
    suite="ts[123]",
    eid="[0-9a-f-]{36}",


rule page:
    default_target: True
    input:
        f"{OUT}/scored",
        expand(OUT + "/{submission}.zip", submission=SUBMISSIONS),
    output:
        f"{OUT}/benchmark.md",
    shell:
        "ibl-mtm results benchmark {PREDICTIONS:q} --out {output:q}"


def finished(label):
    by_recording = [suite for suite in suites_of(label) if suite != "ts3"]
    jobs = [f"{DONE}/{label}/{suite}/{eid}" for suite in by_recording for eid in RECORDINGS]
    return jobs + ([f"{DONE}/{label}/ts3/all"] if "ts3" in suites_of(label) else [])


rule score:
    input:
        [job for label in LABELS for job in finished(label)],
    output:
        touch(f"{OUT}/scored"),
    shell:
        "ibl-mtm benchmark score {PREDICTIONS:q} --data {DATA:q}"


rule check:
    input:
        lambda w: finished(
            w.submission if w.submission in LABELS else w.submission.removesuffix("_multi")
        ),
    output:
        touch(DONE + "/{submission}.checked"),
    shell:
        "ibl-mtm benchmark check {PREDICTIONS:q} --label {wildcards.submission:q} --data {DATA:q}"


rule pack:
    input:
        DONE + "/{submission}.checked",
    output:
        OUT + "/{submission}.zip",
    shell:
        "ibl-mtm benchmark pack {PREDICTIONS:q} --label {wildcards.submission:q} --out {output:q} "
        "--overwrite"


def options(wildcards):
    return LABELS[wildcards.label] or ""


rule recording:
    output:
        touch(DONE + "/{label}/{suite}/{eid}"),
    params:
        options=options,
    threads: THREADS
    shell:
        "ibl-mtm benchmark run --data {DATA:q} --out {PREDICTIONS:q} --label {wildcards.label:q} "
        "--seeds {config[seeds]:q} --suite {wildcards.suite} --session {wildcards.eid} "
        "{params.options}"


# Units of all recordings are told together.
rule regions:
    output:
        touch(DONE + "/{label}/ts3/all"),
    params:
        options=options,
    threads: THREADS
    shell:
        "ibl-mtm benchmark run --data {DATA:q} --out {PREDICTIONS:q} --label {wildcards.label:q} "
        "--seeds {config[seeds]:q} --suite ts3 {params.options}"
