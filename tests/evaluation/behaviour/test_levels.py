"""Classes of three or more: decoded, scored, stored and shown beside those of two."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, confusion_matrix
from sklearn.preprocessing import StandardScaler
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.cli.terminal import _remark
from ibl_mtm.evaluation.behaviour import decode_session, gradient_decoders
from ibl_mtm.evaluation.behaviour.behaviours import MOST_CLASSES, behaviours_in, own_behaviour
from ibl_mtm.evaluation.behaviour.decodable_trials import Undecodable
from ibl_mtm.evaluation.behaviour.gradient_decoders import GRADIENT_DECODERS, decode_by_gradients
from ibl_mtm.evaluation.behaviour.level_decoder import decode_levels, linear_decoder
from ibl_mtm.evaluation.behaviour.level_scores import LevelScore, level_trials, score_levels
from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class
from ibl_mtm.evaluation.compare import compare_runs
from ibl_mtm.evaluation.document import summarise_tasks
from ibl_mtm.evaluation.scored_run import read_scored_run
from ibl_mtm.report.figures.task_scores import confusions
from ibl_mtm.report.tables import score_columns, score_table

NAMES = ("low", "mid", "high", "odd")
#: Ten trials: the first six are fitted to (three of 0 make it the commonest), the last four tested.
Y = np.array([0, 0, 0, 1, 1, 2, 0, 1, 1, 2])
FIT, TEST = np.arange(10) < 6, np.arange(10) >= 6


@pytest.fixture
def tones() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """150 trials of 4 bins and 10 units, of which one fires for each tone; two of the fourth."""
    rng = np.random.default_rng(0)
    level = rng.integers(0, 3, 150)
    level[[4, 61]] = 3
    level[[0, 77]] = -1
    values = rng.normal(size=(150, 4, 10))
    values[:, :, :3] += 0.8 * (level[:, None] == np.arange(3))[:, None]
    return values, level, np.arange(150) // 5 % 4 == 0


def test_of_levels_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Truth 0 1 1 2, decoded 0 1 2 2: three of four; of the classes all, a half, and all."""
    monkeypatch.setattr("ibl_mtm.evaluation.behaviour.level_scores.FOLDS", 1)
    trials = level_trials(Y, NAMES, FIT, TEST)
    assert trials.levels == NAMES[:3]
    assert trials.too_few == ("odd",)
    logit = np.array([[2.0, 1, 0], [0, 3, 1], [-9, -5, -1], [0, 0.1, 0.2]])
    score = score_levels(trials, logit, {}, [logit, np.roll(logit, 1, axis=1)])
    assert score.accuracy == 3 / 4
    assert score.balanced_accuracy == pytest.approx((1 + 1 / 2 + 1) / 3)
    assert score.majority == 1 / 4  # one of the test trials is low, the commonest of those to fit
    assert score.confusion == [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert score.predicted.tolist() == [0, 1, 2, 2]
    # Turned by one, the answers are 1 2 0 0: none is right.
    assert score.chance == pytest.approx({"accuracy": 3 / 8, "balanced_accuracy": 5 / 12})
    assert score.p["accuracy"] == pytest.approx((1 + 1) / (1 + 2))
    low, high = score.intervals["accuracy"]
    assert 0 <= low < 3 / 4 < high <= 1
    assert score.to_json()["levels"] == ["low", "mid", "high"]
    assert json.dumps(score.to_json())


def test_levels_are_decoded_as_by_one_regression_each(tones: Any) -> None:
    values, level, test = tones
    score = decode_levels(Features(values), level, ~test, test, NAMES)
    known = level >= 0
    fit_at, test_at = (np.flatnonzero(part & known & (level < 3)) for part in (~test, test))
    flat = values.reshape(150, -1)
    scaler = StandardScaler().fit(flat[fit_at])
    logits = []
    for at in range(3):
        plain = LogisticRegression(C=score.chosen["C"], max_iter=9999, tol=1e-9)
        plain.fit(scaler.transform(flat[fit_at]), level[fit_at] == at)
        logits.append(plain.decision_function(scaler.transform(flat[test_at])))
    assert np.allclose(score.logit, np.stack(logits, 1), atol=1e-3)
    assert score.trials.tolist() == test_at.tolist()
    assert score.too_few == ("odd",)
    assert score.accuracy > 0.7
    assert score.confusion == confusion_matrix(level[test_at], score.predicted).tolist()
    truth, decoded = level[test_at], score.predicted
    assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, decoded))


def test_chance_of_three_alike_is_a_third(tones: Any) -> None:
    values, level, test = tones
    score = decode_levels(Features(values), level, ~test, test, NAMES, shuffles=60)
    assert score.chance["accuracy"] == pytest.approx(1 / 3, abs=0.05)
    assert score.p["accuracy"] == 1 / 61
    assert score.null == "shuffled trials"


def test_two_levels_are_what_two_classes_are(tones: Any) -> None:
    values, level, test = tones
    two = np.where(level < 2, level, -1)
    score = decode_levels(Features(values), two, ~test, test, ("low", "mid"))
    label = np.where(two < 0, 0, 2 * two - 1)
    other = decode_class(Features(values), label, ~test, test)
    assert np.allclose(score.logit[:, 1], other.logit, atol=1e-6)
    assert np.array_equal(2 * score.predicted - 1, other.predicted)


def test_labels_of_test_trials_change_nothing_that_is_fitted(tones: Any) -> None:
    """Not even which classes there are: a new one among them has no trials to fit."""
    values, level, test = tones
    before = decode_levels(Features(values), level, ~test, test, NAMES)
    spoilt = level.copy()
    spoilt[test & (level >= 0) & (level < 3)] = (level + 1)[test & (level >= 0) & (level < 3)] % 3
    after = decode_levels(Features(values), spoilt, ~test, test, (*NAMES, "new"))
    assert after.chosen == before.chosen
    assert np.array_equal(after.logit, before.logit)
    assert after.too_few == ("odd", "new")
    assert after.accuracy < before.accuracy


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (np.where(np.arange(40) < 30, 0, 1), "of 3 classes 1 have 4 trials to fit"),
        (np.arange(40) % 3, None),
        (np.where(np.arange(40) < 30, np.arange(40) % 3, 1), "the 10 test trials hold fewer"),
    ],
)
def test_too_few_of_a_class(level: np.ndarray, said: str | None) -> None:
    fit = np.arange(40) < 30
    if said is None:
        assert len(level_trials(level, NAMES[:3], fit, ~fit).levels) == 3
        return
    with pytest.raises(Undecodable, match=said):
        level_trials(level, NAMES[:3], fit, ~fit)


@pytest.mark.parametrize("name", GRADIENT_DECODERS)
def test_decoders_by_gradients_tell_levels(
    name: str, tones: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gradient_decoders, "_STEPS", 60)
    _, level, test = tones
    rng = np.random.default_rng(1)
    counts = rng.poisson(1.0 + 3 * (level[:, None] == np.arange(6))[:, None], (150, 4, 6))
    split = np.where(test, "test", np.where(np.arange(150) % 6 == 1, "val", "train"))
    included = np.arange(150) % 13 != 5
    score = decode_by_gradients(name, counts, level, split, included, is_class=True, levels=NAMES)
    assert isinstance(score, LevelScore)
    assert score.logit.shape == ((test & included & (level >= 0) & (level < 3)).sum(), 3)
    assert score.accuracy > 0.6


@pytest.mark.parametrize(
    ("values", "classes", "target"),
    [
        ([2.5, np.nan, 7.0, 1000.0], ("2.5", "7", "1000"), [0, -1, 1, 2]),
        (["b", "", "a", "c"], ("a", "b", "c"), [1, -1, 0, 2]),
        ([-1, -128, 1, 0], ("-1", "0", "1"), [0, -1, 2, 1]),
    ],
)
def test_values_are_classes_in_their_order(
    values: list[Any], classes: tuple[str, ...], target: list[int]
) -> None:
    array = np.array(values, dtype=object if isinstance(values[0], str) else None)
    ds = xr.Dataset({"tone": ("trial", array)}, attrs={"bin_size": 0.02})
    behaviour = own_behaviour("tone", "class", array)
    assert behaviour.classes == classes
    assert behaviour.target(ds).tolist() == target
    assert behaviour.target(ds.isel(trial=[3, 0])).tolist() == [target[3], target[0]]
    assert behaviour.unit == "accuracy, 3 classes"


def test_a_measurement_is_no_class() -> None:
    array = np.arange(MOST_CLASSES + 1) / 2
    ds = xr.Dataset({"tone": ("trial", array)}, attrs={"bin_size": 0.02})
    with pytest.raises(Undecodable, match=r"has 21 values \(0, 0.5, 1, …\).*at most 20 classes"):
        own_behaviour("tone", "class", array).target(ds)
    assert len(own_behaviour("tone", "class", array[1:]).levels) == MOST_CLASSES


def tone_session(seed: int, tones: tuple[float, ...]) -> xr.Dataset:
    """A unit fires for each tone; nothing else is known of the task."""
    ds = make_session(n_units=8, n_trials=90, n_bins=10, seed=seed)
    ds = ds.drop_vars(
        ["choice", "contrast", "stimulus_side", "probability_left", "feedback", "wheel_velocity",
         "whisker_motion_energy", "lick_count", "stimOn_times", "firstMovement_times",
         "response_times", "feedback_times"]
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    tone = rng.choice(tones, ds.sizes["trial"])
    spikes = ds.spikes.values.copy()
    for unit, frequency in enumerate(tones):
        spikes[tone == frequency, 0, unit] += 1
    tone[5] = np.nan
    ds = ds.assign(
        spikes=(ds.spikes.dims, spikes),
        tone=("trial", tone),
        included=("trial", np.ones(len(tone), bool)),
    )
    return ds.assign_attrs(kept=["tone"], conditions=["tone"], decode=json.dumps({"tone": "class"}))


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ibl_mtm.Cache]:
    """Two sessions of the same tones; and two whose tones are not the same."""
    found = {}
    for name, tones in {"same": (4.0, 8.0, 16.0), "other": (4.0, 8.0)}.items():
        root = tmp_path_factory.mktemp("tones") / f"{name}.zarr"
        create_cache(root)
        for seed, own in ((1, (4.0, 8.0, 16.0)), (2, tones)):
            write_session(root, tone_session(seed, own), make_regions())
        found[name] = ibl_mtm.open_cache(root)
    return found


def evaluate(folder: Path, cache: ibl_mtm.Cache, **what: Any) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decode_session, "GRADIENT_DECODERS", ())
        patch.setattr(decode_session, "SHUFFLES", 5)
        ibl_mtm.evaluate_baseline("psth", cache, into=folder, **what).write(folder)
    return folder


@pytest.fixture(scope="module")
def scored(caches: dict[str, ibl_mtm.Cache], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return evaluate(tmp_path_factory.mktemp("scored") / "psth", caches["same"])


def test_levels_are_scored_by_default_and_averaged(scored: Path) -> None:
    run = read_scored_run(scored)
    tone, by_session = run.task("tone"), run.scores["sessions"].values()
    each = [scores["tone"] for scores in by_session]
    assert tone["accuracy"] == pytest.approx(np.mean([s["accuracy"] for s in each]), abs=1e-5)
    assert 0.5 < tone["accuracy"] < 1
    assert 0.1 < tone["chance"]["accuracy"] < 0.6
    assert tone["levels"] == ["4", "8", "16"]
    assert np.array_equal(tone["confusion"], np.sum([s["confusion"] for s in each], axis=0))
    assert np.sum(tone["confusion"]) == tone["n_test"]
    assert all(set(s["intervals"]) == {"accuracy", "balanced_accuracy"} for s in each)
    assert run.task("co_smoothing")["psth_r2"] is not None
    assert not run.scores["skipped"][run.eids[0]].get("tone")


def test_tables_comparisons_and_the_report_show_levels(
    scored: Path, caches: dict[str, ibl_mtm.Cache], tmp_path: Path
) -> None:
    run = read_scored_run(scored)
    assert score_columns([run])[-1] == ("Tone", "accuracy, 3 classes")
    names = [row.name for row in score_table([run])]
    assert {"most common class", "chance"} <= set(names)
    other = evaluate(tmp_path / "again", caches["same"], tasks=["tone"])
    (pair,) = [p for p in compare_runs([scored, other]) if p.task == "tone"]
    assert pair.difference == 0
    page = tmp_path / "report.html"
    ibl_mtm.write_report([scored], page)
    text = page.read_text(encoding="utf-8")
    assert "accuracy, 3 classes" in text
    assert "Decoded classes" in text
    assert (scored / "figures" / "classes_tone.svg").is_file()
    assert _remark(run.task("tone")).startswith("accuracy of 3 classes (balanced 0.")


def test_scores_of_levels_are_joined(
    scored: Path, caches: dict[str, ibl_mtm.Cache], tmp_path: Path
) -> None:
    first, second = caches["same"]
    folder = tmp_path / "both"
    for eid in (first, second):
        evaluate(folder, caches["same"], tasks=["tone"], sessions=[eid])
    whole, joined = (read_scored_run(path) for path in (scored, folder))
    same, tone = joined.task("tone"), whole.task("tone")
    assert same["accuracy"] == pytest.approx(tone["accuracy"], abs=2e-6)
    assert (same["levels"], same["confusion"]) == (tone["levels"], tone["confusion"])


def test_sessions_whose_classes_differ(caches: dict[str, ibl_mtm.Cache], tmp_path: Path) -> None:
    """The mean accuracy is of both; what only one has in common with itself is left out."""
    tone = read_scored_run(evaluate(tmp_path / "o", caches["other"], tasks=["tone"])).task("tone")
    assert tone["n_sessions"] == 2
    assert {"levels", "confusion", "share"}.isdisjoint(tone)
    found = behaviours_in([{"tone": tone}])
    assert found["tone"].unit == "accuracy"


def test_tables_of_unequal_classes_are_not_added_up() -> None:
    a = {"accuracy": 0.5, "levels": ["a", "b", "c"], "confusion": [[1, 0, 0]] * 3}
    b = a | {"levels": ["a", "b", "d"]}
    empty = pd.DataFrame()
    assert "confusion" not in summarise_tasks(empty, [{"t": a}, {"t": b}], ["t"])["t"]
    assert summarise_tasks(empty, [{"t": a}, {"t": a}], ["t"])["t"]["confusion"][0] == [2, 0, 0]


def test_decode_from_any_rates(caches: dict[str, ibl_mtm.Cache]) -> None:
    ds = next(iter(caches["same"].values())).load()
    score = ibl_mtm.decode(ds.spikes, ds, "tone", shuffles=0)
    assert isinstance(score, LevelScore)
    assert score.levels == ("4", "8", "16")
    # Of fewer trials the classes are still the session's.
    most = ds.isel(trial=slice(0, 70))
    assert ibl_mtm.decode(most.spikes, ds, "tone", shuffles=0).n_test < score.n_test


def test_which_decoder() -> None:
    decode = linear_decoder(own_behaviour("tone", "class", np.arange(3)))
    assert isinstance(decode, partial)
    assert decode.func is decode_levels
    assert decode.keywords == {"names": ("0", "1", "2")}
    assert linear_decoder(own_behaviour("go", "class", np.arange(2))) is decode_class


def test_the_matrix_of_classes_shows_shares_of_each_row() -> None:
    """Of 8 trials of low 6 were right; of a class without a test trial there is nothing."""
    counts = np.array([[6, 2, 0], [1, 3, 0], [0, 0, 0]])
    figure = confusions(counts, ["low", "mid", "high"], "Tone")
    axes = figure.axes[0]
    shown = [text.get_text() for text in axes.texts]
    assert shown == ["0.75", "0.25", "0.00", "0.25", "0.75", "0.00", "0.00", "0.00", "0.00"]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["low (8)", "mid (4)", "high (0)"]
    assert axes.get_xlabel() == "decoded as"
