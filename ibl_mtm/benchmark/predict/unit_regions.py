"""Predictions for TS3: regions of units, by a classifier that learned from other animals' units.

    predict_regions(request, TASKS["ts3-unit_cosmos"], seed, report, say, None)

Units for pre-training, with their regions, are what classifiers are fitted to. Which of them
(linear, or a small network) and which features is chosen by folds of animals. Two submissions are
written: each unit on its own (LABEL), and averaged over its neighbours on the probe (LABEL_multi).
"""

import json
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ibl_mtm.benchmark.entity_ids import encode_ids
from ibl_mtm.benchmark.predict.unit_features import HISTOGRAM, firing_features, model_rows
from ibl_mtm.benchmark.submission import Place, write_predictions
from ibl_mtm.benchmark.tasks import BUILD_OF, COSMOS_LABELS, Task
from ibl_mtm.benchmark.truth import scored_units
from ibl_mtm.brainsets.layout import Regime, recordings_in
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import SessionError, UserError

if TYPE_CHECKING:
    from ibl_mtm.benchmark.predict.requests import Report, Request
    from ibl_mtm.model.mtm import MtM

__all__ = ["average_neighbours", "predict_regions"]

RADIUS_UM, NEIGHBOURS = 60.0, 5
"""As the benchmark defines its multi-unit variant."""
_FOLDS = 5

Array = NDArray[np.float64]
Adapted = Callable[[str], "MtM"]


def predict_regions(
    request: "Request",
    task: Task,
    seed: int,
    report: "Report",
    say: Callable[[str], None],
    adapted: Adapted | None,
) -> None:
    """Write the files of a seed, unless they are there.

    Parameters
    ----------
    adapted
        Gives the model that was adapted to a recording; None where there is no pre-trained one,
        whose rows alone can be compared between sessions.
    """
    places = [Place(request.label + more, task.name, "", seed) for more in ("", "_multi")]
    absent = [place for place in places if not (request.out / place.path).is_file()]
    report.skipped += [place.path for place in places if place not in absent]
    if not absent:
        return
    learned = _units(
        request,
        task,
        "pretrain",
        request.pretrained and (lambda _: cast("MtM", request.pretrained)),
        say,
    )
    asked = _units(request, task, "eval", adapted, say)
    say(f"{task.name}, seed {seed}: {len(learned)} units to learn from, {len(asked)} to tell")
    with warnings.catch_warnings():
        # Of the network: it stops where its passes are over, as early stopping would.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier, columns, chosen = _choose(learned, seed)
        fitted = classifier.fit(_matrix(learned, columns), learned["target"].to_numpy())
    odds = np.zeros((len(asked), len(COSMOS_LABELS)))
    odds[:, fitted.classes_] = fitted.predict_proba(_matrix(asked, columns))
    about = {
        "label_names": ",".join(COSMOS_LABELS),
        "unit_filtering": BUILD_OF["ts3"],
        "dataset_version": asked["version"].iloc[0],
    }
    for place in absent:
        multi = place.label.endswith("_multi") and place.label != request.label
        found = average_neighbours(odds, asked) if multi else odds
        tensors: dict[str, np.ndarray] = {
            "pred_proba": found.astype(np.float32),
            "entity_ids": encode_ids(asked["name"]),
        }
        write_predictions(request.out, place, tensors, about)
        report.written.append(place.path)
    note = request.work / f"ts3_seed_{seed}.json"
    text = json.dumps(chosen, indent=1)
    replace_file(note, lambda aside: aside.write_text(text, encoding="utf-8"))


def average_neighbours(odds: Array, units: pd.DataFrame) -> Array:
    """Mean over the nearest units of the same probe, each with itself."""
    depth, probe = units["depths"].to_numpy(np.float64), units["probe_id"].to_numpy(str)
    found = np.empty_like(odds)
    for at in range(len(odds)):
        away = np.abs(depth - depth[at])
        near = np.flatnonzero((probe == probe[at]) & (away <= RADIUS_UM))
        near = near[np.argsort(away[near], kind="stable")][:NEIGHBOURS]
        found[at] = odds[near].mean(0)
    return found


def _units(
    request: "Request",
    task: Task,
    regime: Regime,
    model_of: Adapted | None,
    say: Callable[[str], None],
) -> pd.DataFrame:
    """Units with a region, with columns ``firing`` and ``rows`` of vectors."""
    eids = (
        request.data.recordings
        if regime == "eval"
        else recordings_in(request.data.root, task.build, "pretrain")
    )
    if not eids:
        raise UserError(
            f"{request.data.root} holds no {task.build} recording for pre-training, of whose units "
            "regions are learned; fetch them, or leave ts3 out"
        )
    tables = []
    for eid in eids:
        with request.data.open(task, eid, regime) as recording:
            units = scored_units(recording, regime)
            if not len(units):
                continue
            file = request.firing / f"{eid}_{recording.build}_{recording.version}.npy"
            if not file.is_file():
                say(f"{task.name} {eid}: when its units fire")
                file.parent.mkdir(parents=True, exist_ok=True)
                firing = firing_features(recording)
                replace_file(file, partial(_save, firing))
            firing = np.load(file)[units.index]
            if request.baseline == "isi_histogram":
                firing = firing[:, HISTOGRAM]
            units["firing"] = list(firing)
            units["subject"] = recording.subject or eid
            units["version"] = recording.version
        if model_of is not None:
            model = model_of(eid)
            known = units["id"].isin(model.scope.units).to_numpy()
            if regime == "eval" and not known.all():
                raise SessionError(eid, "the adapted model lacks units of the file")
            units = units[known].copy()
            units["rows"] = list(model_rows(model, units["id"].to_numpy(str)))
        tables.append(units)
    if not sum(map(len, tables)):
        raise UserError(f"no unit for {regime} has a region, or is known to the model")
    return pd.concat(tables, ignore_index=True)


def _save(values: Array, file: Path) -> None:
    with file.open("wb") as opened:
        np.save(opened, values)


def _matrix(units: pd.DataFrame, columns: tuple[str, ...]) -> Array:
    return np.concatenate([np.stack(units[name].to_list()) for name in columns], axis=1)


def _classifiers(seed: int) -> Iterator[tuple[str, Pipeline]]:
    linear = LogisticRegression(
        C=1.0, solver="newton-cg", max_iter=1000, class_weight="balanced", random_state=seed
    )
    yield "linear", make_pipeline(StandardScaler(), linear)
    network = MLPClassifier(
        (64,), alpha=1.0, max_iter=200, tol=1e-3, n_iter_no_change=5, random_state=seed
    )
    yield "network", make_pipeline(StandardScaler(), network)


def _choose(units: pd.DataFrame, seed: int) -> tuple[Pipeline, tuple[str, ...], dict[str, Any]]:
    """Classifier and features with the best mean F1 in folds of animals."""
    target, subject = units["target"].to_numpy(), units["subject"].to_numpy(str)
    sets: list[tuple[str, ...]] = [("firing",)]
    if "rows" in units:
        sets += [("firing", "rows"), ("rows",)]
    n_folds, folds = min(_FOLDS, len(np.unique(subject))), []
    if n_folds > 1:
        folds = list(GroupKFold(n_folds).split(target, target, subject))
    if any(len(np.unique(target[inner])) == 1 for inner, _ in folds):
        folds = []  # nothing to tell apart there
    best: tuple[float, Pipeline, tuple[str, ...], dict[str, Any]] | None = None
    for columns in sets:
        x = _matrix(units, columns)
        for name, classifier in _classifiers(seed):
            score = np.nan
            if folds:
                said = cross_val_predict(classifier, x, target, cv=folds)
                labels = np.unique(target)
                score = float(
                    f1_score(target, said, labels=labels, average="macro", zero_division=0)
                )
            if best is None or score > best[0]:
                about = {"classifier": name, "features": columns, "F1 of other animals": score}
                best = score, classifier, columns, about
    assert best is not None
    return best[1:]
