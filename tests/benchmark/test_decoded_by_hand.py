"""Decoders of TS1 by hand: what surrounds a bin, classes' odds, courses of low rank, features."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import log_expit

from ibl_mtm.benchmark.predict import decoded, features
from ibl_mtm.benchmark.predict.features import Reduced, window_features
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.brainsets.recording import Spikes
from ibl_mtm.sessions.trial_format import TrialFormat


def as_they_are(values: np.ndarray) -> np.ndarray:
    return values


def test_a_sample_is_read_from_eight_bins_before_to_eight_behind_it() -> None:
    """Beyond a window its first and its last bin stand for what is not seen."""
    values = np.arange(2 * 50 * 3.0).reshape(2, 50, 3)
    reduced: Any = as_they_are
    found = decoded._lagged(reduced, values).reshape(2, 50, 9, 3)
    for t in (0, 3, 25, 49):
        for at, lag in enumerate(range(-8, 9, 2)):
            there = min(max(t + lag, 0), 49)
            np.testing.assert_array_equal(found[:, t, at], values[:, there])
    whole = decoded._whole(reduced, values)
    np.testing.assert_array_equal(whole, values.reshape(2, 150))


def test_features_of_spikes_are_smoothed_roots_of_counts() -> None:
    """Of a window alone: nine spikes in a bin, spread by a Gaussian of two bins."""
    times = np.sort(np.r_[np.full(9, 10.51), 9.99, 11.0])
    recording: Any = SimpleNamespace(
        eid="e", unit_ids=np.array(["u"]), spikes=lambda: Spikes(times, np.zeros(11, np.int32))
    )
    (found,) = window_features(recording, np.array([10.0])).values()
    assert found.shape == (1, 50, 1)
    away = np.arange(50) - 25
    bump = np.exp(-((away / 2.0) ** 2) / 2)
    np.testing.assert_allclose(found[0, :, 0], 3 * bump / bump.sum(), atol=2e-3)


def test_what_varies_by_rounding_is_no_component() -> None:
    rng = np.random.default_rng(0)
    one = rng.normal(size=(40, 1))
    values = np.concatenate([one, one + 1e-4 * rng.normal(size=(40, 1))], axis=1)
    assert Reduced(values, 5).n_components == 2
    values = np.concatenate([one, one + 1e-9 * rng.normal(size=(40, 1))], axis=1)
    assert Reduced(values, 5).n_components == 1
    assert Reduced(values[:1], 5)(values[:1]).shape == (1, 1)


def test_classes_are_read_whole_and_pooled_under_every_penalty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Odds of a class that was never trained on are as low as any."""
    fits: list[Any] = []

    class Logistic:
        def __init__(self, C: float, class_weight: str, max_iter: int) -> None:
            fits.append((C, class_weight))

        def fit(self, x: Any, y: Any) -> "Logistic":
            fits[-1] += (x.shape, y.tolist())
            return self

        def predict_log_proba(self, x: Any) -> Any:
            return np.stack([log_expit(x[:, 0]), log_expit(-x[:, 0])], axis=1)

    monkeypatch.setattr(decoded, "LogisticRegression", Logistic)
    reduced: list[Any] = []
    monkeypatch.setattr(
        decoded, "Reduced", lambda flat, n: reduced.append((flat, n)) or as_they_are
    )
    monkeypatch.setattr(decoded, "INVERSE_PENALTIES", (0.1, 1.0))
    task, target = TASKS["ts1-stimulus_contrast"], [3, 1, 3, 1]
    rng = np.random.default_rng(0)
    x = {s: rng.normal(size=(n, 6, 2)) for s, n in (("train", 4), ("val", 3), ("test", 2))}
    x["val"][0] = 900  # of which nobody could be surer
    train: Any = SimpleNamespace(values=np.array(target)[:, None, None])
    found = list(decoded._fit_classes(task, {s: {"spikes": of} for s, of in x.items()}, train))
    assert [(f.about["pooled"], f.about["C"]) for f in found] == [
        (False, 0.1), (False, 1.0), (True, 0.1), (True, 1.0),
    ]  # fmt: skip
    assert [(shape, y) for _, _, shape, y in fits] == [((4, 12), target)] * 2 + [
        ((4, 2), target)
    ] * 2
    assert {weight for _, weight, *_ in fits} == {"balanced"}
    (whole, n), (pooled, n_pooled) = reduced  # of the windows that are fitted to
    assert (n, n_pooled) == (4, 4)
    np.testing.assert_array_equal(whole, x["train"].reshape(4, 12))
    np.testing.assert_allclose(pooled, x["train"].mean(1))
    for candidate in found[::2]:
        is_pooled = candidate.about["pooled"]
        for split in ("val", "test"):
            odds = getattr(candidate, split)
            assert odds.shape == (len(x[split]), 1, 5)
            assert (odds[:, 0, [0, 2, 4]] == -20).all()
            first = x[split].mean(1)[:, 0] if is_pooled else x[split][:, 0, 0]
            np.testing.assert_allclose(odds[:, 0, 1], np.maximum(log_expit(first), -20))
            np.testing.assert_allclose(odds[:, 0, 3], np.maximum(log_expit(-first), -20))


def test_traces_are_the_course_and_what_spikes_add(monkeypatch: Any) -> None:
    """Ridge regression of what is left beyond the mean course, by its normal equations."""
    rng = np.random.default_rng(0)
    task = TASKS["ts1-wheel_speed"]
    target = rng.normal(size=(9, 50))
    mask = rng.random((9, 50)) < 0.7
    x = {"train": rng.normal(size=(9, 50, 2)), "val": rng.normal(size=(4, 50, 2)),
         "test": rng.normal(size=(3, 50, 2))}  # fmt: skip
    fitted: list[Any] = []
    monkeypatch.setattr(decoded, "Reduced", lambda flat, n: fitted.append(len(flat)))
    monkeypatch.setattr(decoded, "_lagged", lambda reduced, values: values)
    monkeypatch.setattr(decoded, "PENALTIES", (3.0,))
    train: Any = SimpleNamespace(values=target[..., None], mask=mask)
    features = {split: {"spikes": values} for split, values in x.items()}
    (found,) = decoded._fit_traces(task, features, train)
    assert fitted == [9 * 50]
    course = np.array([target[mask[:, t], t].mean() for t in range(50)])
    rest, flat = (target - course)[mask], x["train"][mask]
    centred = flat - flat.mean(0)
    weights = np.linalg.solve(centred.T @ centred + 3 * np.eye(2), centred.T @ rest)
    constant = rest.mean() - flat.mean(0) @ weights
    for split in ("val", "test"):
        expected = course + x[split] @ weights + constant
        np.testing.assert_allclose(getattr(found, split)[..., 0], expected, atol=1e-9)
    assert found.about == {"features": "spikes", "alpha": 3.0}
    monkeypatch.setattr(decoded, "_FLOORS", (0.5, 1e-3))
    train = SimpleNamespace(values=np.abs(target)[..., None], mask=None)
    low, high = decoded._fit_traces(TASKS["ts1-licking_rate"], features, train)
    assert (low.about["floor"], high.about["floor"]) == (0.5, 1e-3)
    mean = np.abs(target).mean()
    assert low.val.min() >= np.log(0.5 * mean) - 1e-9
    np.testing.assert_allclose(low.val, np.maximum(high.val, np.log(0.5 * mean)), atol=1e-9)


def test_courses_of_low_rank_are_the_best_of_the_regression_s(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of full rank it is ridge regression of whole traces; of rank 1, its largest course alone."""
    rng = np.random.default_rng(0)
    n, penalty = 12, 3.0
    target, mask = rng.normal(size=(n, 50)), rng.random((n, 50)) < 0.8
    x = {s: rng.normal(1, 1, (m, 4)) for s, m in (("train", n), ("val", 3), ("test", 2))}
    reduced: list[Any] = []
    monkeypatch.setattr(decoded, "Reduced", lambda flat, n: reduced.append(flat))
    monkeypatch.setattr(decoded, "_whole", lambda reduced, values: values)
    monkeypatch.setattr(decoded, "PENALTIES", (penalty,))
    monkeypatch.setattr(decoded, "RANKS", (1, 4))
    train: Any = SimpleNamespace(values=target[..., None], mask=mask)
    given = {split: {"spikes": values} for split, values in x.items()}
    one, full = decoded._fit_low_rank(TASKS["ts1-wheel_speed"], given, train)
    assert one.about == {"features": "spikes", "alpha": 3.0, "rank": 1}
    np.testing.assert_array_equal(reduced, [x["train"]])
    course = np.array([target[mask[:, t], t].mean() for t in range(50)])
    rest = np.where(mask, target - course, 0)
    centred = {split: values - x["train"].mean(0) for split, values in x.items()}
    own = centred["train"]
    weights = np.linalg.solve(own.T @ own + penalty * np.eye(4), own.T @ rest)
    # Ridge regression of rank 1 is that of all, seen along the first direction of what it says of
    # the windows and of its weights, each of which weighs as much as a window.
    said = np.concatenate([own @ weights, np.sqrt(penalty) * weights])
    first = np.linalg.svd(said)[2][0]
    for split in ("val", "test"):
        expected = course + centred[split] @ weights
        np.testing.assert_allclose(getattr(full, split)[..., 0], expected, atol=1e-9)
        along = course + np.outer(centred[split] @ weights @ first, first)
        np.testing.assert_allclose(getattr(one, split)[..., 0], along, atol=1e-9)


def test_counts_of_a_model_s_longer_windows_begin_before_the_second() -> None:
    times = np.array([8.99, 9.0, 9.5, 10.0, 10.99, 11.0])
    recording: Any = SimpleNamespace(
        unit_ids=np.array(["u"]), spikes=lambda: Spikes(times, np.zeros(6, np.int32))
    )
    counts = features.counts_of(recording, np.array([10.0]))
    assert np.flatnonzero(counts[0, :, 0]).tolist() == [0, 49]
    format_ = TrialFormat(100, 0.02, "contiguous", -1.0)
    model: Any = SimpleNamespace(scope=SimpleNamespace(trial_format=format_))
    counts = features.counts_of(recording, np.array([10.0]), model)
    assert counts.shape == (1, 100, 1)
    assert np.flatnonzero(counts[0, :, 0]).tolist() == [0, 25, 50, 99]


@pytest.mark.parametrize("scores", [(np.nan, np.nan, np.nan), (np.nan, 0.2, 0.1), (0.1, 0.1, 0.1)])
def test_of_decoders_that_val_cannot_tell_apart_the_first_is_taken(
    monkeypatch: pytest.MonkeyPatch, scores: tuple[float, ...]
) -> None:
    """And it is said that nothing is known of how good it is."""
    task, told = TASKS["ts1-wheel_speed"], iter(scores)
    of: Any = SimpleNamespace(
        trial_id=np.arange(3), start=np.arange(3.0), values=None, mask=None, timestamps=None
    )
    monkeypatch.setattr(decoded, "trial_truth", lambda *a: of)
    monkeypatch.setattr(decoded, "window_features", lambda *a: {})
    monkeypatch.setattr(decoded, "score_trials", lambda *a: {"r2": next(told)})
    candidates = [decoded._Candidate({"n": n}, np.zeros(1), np.full(3, n)) for n in range(3)]
    monkeypatch.setattr(decoded, "_fit_traces", lambda *a: iter(candidates))
    recording: Any = SimpleNamespace(wrong=ValueError)
    found = decoded.predict_behaviour(recording, task)
    best = 1 if np.isnan(scores[0]) and not np.isnan(scores[1]) else 0
    known = None if np.isnan(scores[best]) else scores[best]
    assert found.chosen == {"n": best, "val r2": known}
    assert found.tensors.keys() == {"predictions", "trial_id"}
    assert found.tensors["predictions"].tolist() == [best] * 3
    assert found.tensors["predictions"].dtype == np.float32
