"""Predictions of a model for the benchmark, task by task, recording by recording, seed by seed.

    request = Request(data, Path("predictions"), "mtm", seeds=[43, 44, 45], init="runs/pretrained")
    report = run_benchmark(request)
    report.written, report.skipped, report.failed

What is finished is passed over; what an interrupted training did is gone on with. The models lie in
``.work`` beside the folders of labels, one for each suite, recording and seed.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict.adaptation import WINDOWS, adapt, bins_before, refit_dynamics
from ibl_mtm.benchmark.predict.baselines import fit_activity, predict_activity
from ibl_mtm.benchmark.predict.decoded import predict_behaviour
from ibl_mtm.benchmark.predict.neural import (
    choose_share,
    has_dynamics,
    neural_tensors,
    predict_windows,
)
from ibl_mtm.benchmark.predict.registry import BASELINES
from ibl_mtm.benchmark.predict.unit_regions import predict_regions
from ibl_mtm.benchmark.submission import LABEL, Place, write_predictions
from ibl_mtm.benchmark.tasks import SUITES, TASKS, Suite, Task
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.brainsets.evaluated import evaluated_among
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.disk.targets import check_folder
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.checkpoint.pretrained import (
    PretrainedMtM,
    find_model,
    load_model,
    model_digest,
)
from ibl_mtm.training.settings import FinetuneSettings, RunSettings, read_run_settings

__all__ = ["Report", "Request", "read_seeds", "run_benchmark"]

WORK = ".work"
_STITCHERS = 0.2
"""Share of the steps, with a model to start from, in which its body stands still, unless told."""
_BODY_RATE = 0.3

Say = Callable[[str], None]


def read_seeds(text: str) -> list[int]:
    """Seeds as people write them: ``43-45``, ``43,44,45`` or ``43``.

    Raises
    ------
    UserError
        If they are no numbers, or not consecutive ones: the benchmark refuses those.
    """
    seeds: set[int] = set()
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not found:
            raise UserError(f"--seeds {text}: expected numbers, as 43-45 or 43,44,45")
        seeds |= set(range(int(found[1]), int(found[2] or found[1]) + 1))
    if not seeds or len(seeds) != max(seeds) - min(seeds) + 1:
        raise UserError(f"--seeds {text}: the benchmark takes consecutive seeds only, as 43-45")
    return sorted(seeds)


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes
    ----------
    data
        The benchmark's files.
    out
        Where the folder of the label is made.
    label
        Of the submission.
    seeds
        Consecutive ones.
    tasks, recordings
        These only.
    init
        A pre-trained run to start from.
    config, overrides
        Settings of the adaptations.
    baseline
        Predict by this one of `BASELINES` instead of a model: those of the tasks that it can do.
    end_to_end
        Also train the model for each task of TS1, and take that where val says so.
    """

    data: BenchmarkData
    out: Path
    label: str
    seeds: Sequence[int]
    tasks: Sequence[Task] = tuple(TASKS.values())
    recordings: Sequence[str] | None = None
    init: str | Path | None = None
    config: str = "benchmark"
    overrides: tuple[str, ...] = ()
    baseline: str | None = None
    end_to_end: bool = False

    @cached_property
    def eids(self) -> list[str]:
        """The recordings."""
        return self.data.choose(self.recordings)

    @cached_property
    def pretrained(self) -> PretrainedMtM | None:
        """The model to start from."""
        return None if self.init is None else load_model(find_model(self.init))

    @property
    def predicted(self) -> list[Task]:
        """The tasks, but for those that a baseline does not predict."""
        known = BASELINES[self.baseline].tasks if self.baseline else tuple(TASKS)
        return [task for task in self.tasks if task.name in known]

    @property
    def work(self) -> Path:
        """Where what is made on the way lies."""
        return self.out / WORK / self.label

    @property
    def firing(self) -> Path:
        """Where it is kept when units fire: whatever the label (none begins with a dot)."""
        return self.out / WORK / ".units"

    @property
    def format(self) -> TrialFormat:
        """Of the windows that models are adapted to."""
        return self.pretrained.scope.trial_format if self.pretrained else WINDOWS

    def settings(self, suite: Suite, seed: int) -> RunSettings:
        """Of an adaptation.

        Raises
        ------
        UserError
            If they leave out units or trials, or do not say over how many steps a body thaws.
        """
        chosen = read_run_settings(self.config, [*self.overrides, f"seed={seed}"])
        for name in ("min_rate", "min_label", "included_only"):
            if getattr(chosen.data, name):
                raise UserError(
                    f"data.{name}: the benchmark asks for all units and windows of its files; "
                    "leave it out"
                )
        if self.pretrained is None:
            return chosen
        if chosen.steps is None:
            raise UserError(
                "epochs: a model to start from thaws after a share of the steps; give steps=N"
            )
        model = self.pretrained.settings.model_copy(update={"dynamics": chosen.model.dynamics})
        tuned = chosen.finetune
        if tuned == FinetuneSettings():
            few = round(_STITCHERS * chosen.steps)
            tuned = FinetuneSettings(stitchers_only=few, body_rate=_BODY_RATE)
        if suite == "ts3":
            # A unit's rows can be compared between sessions if the body is the same for all.
            tuned = tuned.model_copy(update={"stitchers_only": chosen.steps})
            # … and they have no part in linear dynamics, which take their time to fit.
            model = model.model_copy(update={"dynamics": 0})
        data = chosen.data.model_copy(update={"regions": self.pretrained.scope.region_map})
        return chosen.model_copy(update={"model": model, "finetune": tuned, "data": data})


@dataclass
class Report:
    """What became of a request: paths of files, and why what failed did."""

    written: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return {"written": self.written, "skipped": self.skipped, "failed": self.failed}


def run_benchmark(request: Request, say: Say = lambda message: None) -> Report:
    """Adapt and predict whatever is asked for and not there yet.

    Raises
    ------
    UserError
        If the request cannot be met: a label of other settings, a model that knows an animal of
        the evaluation or has other windows, no such recording.
    """
    _check(request)
    report = Report()
    for suite in SUITES:
        tasks = [task for task in request.predicted if task.suite == suite]
        if not tasks:
            continue
        together = [request.seeds] if request.baseline else [[seed] for seed in request.seeds]
        for seeds in together:
            if suite == "ts3":
                for seed in seeds:
                    _predict_regions(request, tasks[0], seed, report, say)
                continue
            for eid in request.eids:
                _predict_recording(request, suite, tasks, eid, seeds, report, say)
    return report


def _predict_regions(request: Request, task: Task, seed: int, report: Report, say: Say) -> None:
    def model_of(eid: str) -> MtM:
        with request.data.open(task, eid) as recording:
            return adapted(request, recording, "ts3", seed, say)

    try:
        predict_regions(request, task, seed, report, say, model_of if request.pretrained else None)
    except SessionError as error:
        report.failed[f"{request.label}/{task.name}, seed {seed}"] = str(error)


def _predict_recording(
    request: Request,
    suite: Suite,
    tasks: list[Task],
    eid: str,
    seeds: Sequence[int],
    report: Report,
    say: Say,
) -> None:
    """Predict with the model of a seed; a baseline draws nothing, and is the same for all seeds."""
    places = [Place(request.label, task.name, eid, seed) for task in tasks for seed in seeds]
    absent = [place for place in places if not (request.out / place.path).is_file()]
    report.skipped += [place.path for place in places if place not in absent]
    if not absent:
        return
    try:
        with request.data.open(suite, eid) as recording:
            model = None if request.baseline else adapted(request, recording, suite, seeds[0], say)
            kept = request.work / suite / eid / "dynamics.safetensors"
            last = cache(partial(refit_dynamics, recording, kept))
            for task in tasks:
                same = [place for place in absent if place.task == task.name]
                if not same:
                    continue
                say(f"{task.name} {eid}, seed {', '.join(str(p.seed) for p in same)}: predicting")
                write = partial(_write_activity, last) if suite == "ts2" else _write_behaviour
                try:
                    write(request, recording, model, same)
                except SessionError as error:
                    report.failed |= {place.path: error.reason for place in same}
                else:
                    report.written += [place.path for place in same]
    except SessionError as error:
        report.failed |= {place.path: error.reason for place in absent}


def adapted(
    request: Request, recording: Recording, suite: Suite, seed: int, say: Say
) -> PretrainedMtM:
    """The model of a recording, trained if it is not there yet."""
    work = request.work / suite / recording.eid / f"seed_{seed}"
    done = work / "adapted.json"
    if not done.is_file():
        say(f"{suite} {recording.eid}, seed {seed}: adapting")
        work.mkdir(parents=True, exist_ok=True)
        settings = request.settings(suite, seed)
        run = adapt(work, recording, suite, settings, request.init, request.format)
        text = json.dumps({"weights": model_digest(run)}, indent=1)
        replace_file(done, lambda aside: aside.write_text(text, encoding="utf-8"))
    return load_model(work / "run")


def _about(recording: Recording) -> dict[str, str]:
    return {"unit_filtering": recording.build, "dataset_version": recording.version}


def _write_activity(
    last: Callable[[MtM], MtM],
    request: Request,
    recording: Recording,
    model: MtM | None,
    places: Sequence[Place],
) -> None:
    """Choose by the adapted model; predict by the `last`, whose dynamics have seen val, too."""
    task = TASKS[places[0].task]
    truth = NeuralTruth.of(recording, task, "test")
    if model is None:
        fitted = fit_activity(recording, task, request.baseline or "linear")
        predictions = predict_activity(fitted, truth)
    else:
        asked = (model, recording.eid, recording.unit_ids)
        chosen = choose_share(*asked, NeuralTruth.of(recording, task, "val"))
        for place in places:
            _note(request, "ts2", place, {"val poisson_d2 by share of dynamics": chosen})
        if has_dynamics(model, task):
            last(model).dynamics_share.copy_(model.dynamics_share)
            asked = (last(model), *asked[1:])
        predictions = predict_windows(*asked, truth)
    tensors, about = neural_tensors(truth, predictions)
    for place in places:
        write_predictions(request.out, place, tensors, _about(recording) | about)


def _write_behaviour(
    request: Request, recording: Recording, model: MtM | None, places: Sequence[Place]
) -> None:
    task = TASKS[places[0].task]
    if request.end_to_end:
        found = predict_behaviour(recording, task, model, end_to_end=True, seed=places[0].seed)
    elif request.baseline == "reduced_rank":
        found = predict_behaviour(recording, task, low_rank=True)
    else:
        found = predict_behaviour(recording, task, model)
    for place in places:
        write_predictions(request.out, place, found.tensors, _about(recording))
        _note(request, "ts1", place, found.chosen)


def _note(request: Request, suite: Suite, place: Place, chosen: dict[str, Any]) -> None:
    """Keep what was chosen on val beside the model."""
    folder = request.work / suite / place.recording / f"seed_{place.seed}"
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(chosen, indent=1)
    replace_file(folder / f"{place.task}.json", lambda aside: aside.write_text(text))


def _check(request: Request) -> None:
    """Refuse what cannot become a submission, before anything is computed."""
    if not LABEL.fullmatch(request.label):
        raise UserError(
            f"--label '{request.label}': letters, digits, '.', '_' and '-' make a label"
        )
    if request.baseline is not None and request.baseline not in BASELINES:
        raise UserError(f"no baseline '{request.baseline}'; known: {', '.join(BASELINES)}")
    if request.baseline is not None and not request.predicted:
        known = ", ".join(BASELINES[request.baseline].tasks)
        raise UserError(f"baseline '{request.baseline}' predicts {known} alone; ask for that")
    if request.baseline is not None and request.init is not None:
        raise UserError("a baseline starts from no model; leave --init or --baseline out")
    if request.baseline is not None and request.end_to_end:
        raise UserError("a baseline has no model to train; leave --end-to-end or --baseline out")
    check_folder(request.out)
    if any((request.out / task).is_dir() for task in TASKS):
        raise UserError(
            f"{request.out} is the folder of label '{request.out.name}'; give --out the folder "
            "above it"
        )
    _ = request.eids
    settings = request.settings("ts2", request.seeds[0])
    if request.pretrained:
        bins_before(request.format)
        _check_animals(request, request.pretrained)
    asked: dict[str, Any] = {
        "baseline": request.baseline,
        "init": None if request.init is None else model_digest(find_model(request.init)),
        "settings": settings.model_dump(mode="json", exclude={"seed", "trainer"}),
    }
    if request.end_to_end:  # else as labels have it that were begun before
        asked["end_to_end"] = True
    _claim(request, asked)


def _check_animals(request: Request, model: MtM) -> None:
    known = dict.fromkeys(model.scope.sessions, "")
    reasons = evaluated_among(known, dict.fromkeys(request.data.recordings, "eval"))
    if reasons:
        eid, reason = next(iter(reasons.items()))
        raise UserError(
            f"{request.init} was trained on session {eid}: {reason}, and of an animal that no "
            "pre-trained model may know; pre-train without "
            f"{'it' if len(reasons) == 1 else f'these {len(reasons)}'}"
        )


def _claim(request: Request, asked: dict[str, Any]) -> None:
    """A label is of one model and its settings: say which, or refuse others."""
    folder = request.work
    file = folder / "request.json"
    text = json.dumps(asked, indent=1, sort_keys=True)
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before != json.loads(text):
            now = json.loads(text)
            differ = [key for key in {**before, **now} if before.get(key) != now.get(key)]
            raise UserError(
                f"label '{request.label}' of {request.out} was begun with other "
                f"{' and '.join(differ)}; give these predictions a label of their own"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(file, lambda aside: aside.write_text(text, encoding="utf-8"))
