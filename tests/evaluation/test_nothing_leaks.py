"""One check for every decoder and every baseline: what is tested tells nothing to what is fitted.

The targets of test trials may be anything, and so may the features of the other test trials; and
the targets of validation trials choose between fits, but are not fitted to.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from short_fits import shorten
from synthetic import make_session

from ibl_mtm.evaluation.activity.tasks import held_out
from ibl_mtm.evaluation.baselines.registry import BASELINES
from ibl_mtm.evaluation.baselines.session_data import BaselineData
from ibl_mtm.evaluation.behaviour import gradient_decoders
from ibl_mtm.evaluation.behaviour.decodable_trials import class_trials
from ibl_mtm.evaluation.behaviour.gradient_decoders import GRADIENT_DECODERS, decode_by_gradients
from ibl_mtm.evaluation.behaviour.level_decoder import decode_levels
from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class, decode_trace

N_TRIALS, N_TIME, N_UNITS = 90, 12, 15
#: Splits of irregular size, and trials that take no part in between.
SPLIT = np.array(["train", "train", "test", "train", "val", "train", "train"])[
    np.arange(N_TRIALS) % 7
]
INCLUDED = np.arange(N_TRIALS) % 11 != 3
FIT, TEST = INCLUDED & (SPLIT != "test"), INCLUDED & (SPLIT == "test")

Decoded = dict[str, object]


@pytest.fixture(scope="module")
def counts() -> np.ndarray:
    rng = np.random.default_rng(0)
    signal = np.cumsum(rng.normal(0, 0.4, (N_TRIALS, N_TIME)), axis=1)
    rates = 0.6 * np.exp(signal[:, :, None] * rng.normal(0.6, 0.3, N_UNITS))
    return rng.poisson(rates).clip(0, 60).astype(np.uint8)


def classes(counts: np.ndarray) -> np.ndarray:
    total = counts[:, :, :3].sum((1, 2)).astype(float)
    return np.where(total > np.median(total), 1, -1)


def traces(counts: np.ndarray) -> np.ndarray:
    return counts[:, :, :4].mean(2) + np.random.default_rng(1).normal(0, 0.1, (N_TRIALS, N_TIME))


def by_class(counts: np.ndarray, y: np.ndarray) -> Decoded:
    score = decode_class(Features(counts), y, FIT, TEST)
    return {"decoded": score.logit, "chosen": score.chosen, "trials": score.trials}


def by_levels(counts: np.ndarray, y: np.ndarray) -> Decoded:
    """A third class, of every third trial, whatever its target is made."""
    level = np.where(np.arange(N_TRIALS) % 3 == 0, 2, (y + 1) // 2)
    score = decode_levels(Features(counts), level, FIT, TEST, ("a", "b", "c"))
    return {"decoded": score.logit, "chosen": score.chosen, "trials": score.trials}


def by_trace(counts: np.ndarray, y: np.ndarray) -> Decoded:
    score = decode_trace(Features(counts), y, FIT, TEST)
    return {"decoded": score.predicted, "chosen": score.chosen, "trials": score.trials}


def by_gradients(name: str, is_class: bool) -> Callable[[np.ndarray, np.ndarray], Decoded]:
    def decode(counts: np.ndarray, y: np.ndarray) -> Decoded:
        score = decode_by_gradients(name, counts, y, SPLIT, INCLUDED, is_class=is_class)
        decoded = score.logit if is_class else score.predicted
        return {"decoded": decoded, "chosen": score.chosen, "trials": score.trials}

    return decode


DECODERS = {"logistic": (by_class, classes), "levels": (by_levels, classes),
            "ridge": (by_trace, traces)}  # fmt: skip
DECODERS |= {
    f"{name}, {kind}": (by_gradients(name, kind == "class"), target)
    for name in GRADIENT_DECODERS
    for kind, target in (("class", classes), ("trace", traces))
}


def spoilt(y: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Other targets in some trials; of two classes, both."""
    other = y.copy()
    other[trials] = -y[trials] if y.ndim == 1 else 50 * np.random.default_rng(2).random(
        y[trials].shape)  # fmt: skip
    return other


@pytest.fixture(autouse=True)
def _short(monkeypatch) -> None:
    """Gradient decoders that look at validation trials twice; few fits, of few passes."""
    monkeypatch.setattr(gradient_decoders, "_STEPS", 20)
    monkeypatch.setattr(gradient_decoders, "_EVERY", 10)
    shorten(monkeypatch)


@pytest.fixture(scope="module")
def clean(counts: np.ndarray) -> Callable[[str], Decoded]:
    """What a decoder makes of everything as it is."""

    @cache
    def decoded(name: str) -> Decoded:
        decode, target = DECODERS[name]
        return decode(counts, target(counts))

    return decoded


def check_same(a: Decoded, b: Decoded, rows: slice = slice(None)) -> None:
    assert a["chosen"] == b["chosen"]
    np.testing.assert_array_equal(a["trials"], b["trials"])
    np.testing.assert_allclose(a["decoded"][rows], b["decoded"][rows], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", DECODERS)
def test_targets_of_test_trials_do_not_reach_a_decoder(name, counts, clean):
    decode, target = DECODERS[name]
    check_same(clean(name), decode(counts, spoilt(target(counts), TEST)))


@pytest.mark.parametrize("name", DECODERS)
def test_features_of_other_test_trials_do_not_reach_a_decoder(name, counts, clean):
    decode, target = DECODERS[name]
    y, others = target(counts), counts.copy()
    others[np.flatnonzero(TEST)[1:]] = 200
    check_same(clean(name), decode(others, y), slice(0, 1))


@pytest.mark.parametrize("name", DECODERS)
def test_trials_that_take_no_part_do_not_reach_a_decoder(name, counts, clean):
    decode, target = DECODERS[name]
    y, others = target(counts), counts.copy()
    others[~INCLUDED] = 200
    found = decode(others, spoilt(y, ~INCLUDED))
    check_same(clean(name), found)
    np.testing.assert_array_equal(found["trials"], np.flatnonzero(TEST))


@pytest.mark.parametrize("name", [name for name in DECODERS if "," in name])
def test_validation_trials_only_say_when_to_stop(name, counts, monkeypatch):
    """Where there is but one time to stop, and one network, they change nothing."""
    monkeypatch.setattr(gradient_decoders, "_EVERY", 20)
    monkeypatch.setattr(gradient_decoders, "_RANKS", (2,))
    decode, target = DECODERS[name]
    y, others, val = target(counts), counts.copy(), SPLIT == "val"
    others[val] = 200
    check_same(decode(counts, y), decode(others, spoilt(y, val)))


@pytest.mark.parametrize("name", [name for name in DECODERS if "," in name])
def test_validation_trials_do_say_when_to_stop(name, counts, monkeypatch):
    """Targets that training trials tell nothing of are best left alone; others are followed."""
    monkeypatch.setattr(gradient_decoders, "_STEPS", 60)
    monkeypatch.setattr(gradient_decoders, "_EVERY", 2)
    decode, target = DECODERS[name]
    y = target(counts)
    opposite = y.copy()
    opposite[SPLIT == "val"] = -y[SPLIT == "val"]
    followed, left = decode(counts, y), decode(counts, opposite)
    assert left["chosen"]["steps"] < followed["chosen"]["steps"]


NOTHING_TO_CHOOSE = "unit_mean", "autoregressive", "poisson_lds", "poisson_lds_drift"
BASELINE_TASKS = [(name, task) for name, b in BASELINES.items() for task in b.tasks]


def data_of(counts: np.ndarray) -> BaselineData:
    ds = make_session(n_units=N_UNITS, n_trials=N_TRIALS, n_bins=N_TIME, seed=5)
    ds["spikes"] = ds.spikes.dims, counts
    return BaselineData.of(ds, SPLIT, ds.beryl.values.astype(str))


@pytest.fixture(scope="module")
def as_it_is_and_spoilt(counts: np.ndarray) -> tuple[BaselineData, BaselineData]:
    """A session, and with other test trials but the first; each fitted once for all tasks."""
    others = counts.copy()
    others[np.flatnonzero(SPLIT == "test")[1:]] = 50
    return data_of(counts), data_of(others)


@pytest.mark.parametrize(("name", "task"), BASELINE_TASKS)
def test_test_trials_do_not_reach_a_baseline(name, task, as_it_is_and_spoilt):
    """Neither what it chooses, nor its prediction of another trial."""
    baseline, (clean, changed) = BASELINES[name], as_it_is_and_spoilt
    chosen = baseline.choose(clean, task)
    assert baseline.choose(changed, task) == chosen
    before, after = (baseline.predict(data, task, *chosen)[0] for data in (clean, changed))
    np.testing.assert_allclose(after, before, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "task"),
    [(n, t) for n, t in BASELINE_TASKS if n not in NOTHING_TO_CHOOSE],
)
def test_a_baseline_chooses_by_predictions_that_do_not_know_what_they_are_scored_by(
    name, task, counts, monkeypatch
):
    """The autoregressive model has folds of its own; others have nothing to choose."""
    clean = data_of(counts)
    held = list(held_out(task, clean.region, N_TIME))[-1]
    hidden = np.broadcast_to(held.hidden, counts.shape[1:]) & (SPLIT == "val")[:, None, None]
    changed = data_of(np.where(hidden, 50, counts).astype(np.uint8))
    seen: dict[int, list[np.ndarray]] = {id(clean): [], id(changed): []}

    def record(self: BaselineData, rates: np.ndarray, split: str, task: str) -> float:
        assert split == "val"
        seen[id(self)].append(rates[..., held.outputs].copy())
        return -float(len(seen[id(self)]))  # the same choices, whatever is predicted

    monkeypatch.setattr(BaselineData, "score", record)
    for data in (clean, changed):
        BASELINES[name].choose(data, task)
    assert len(seen[id(clean)]) == len(seen[id(changed)]) > 1
    for before, after in zip(seen[id(clean)], seen[id(changed)], strict=True):
        np.testing.assert_allclose(after, before, rtol=1e-5)


def test_folds_of_the_autoregressive_model_are_fitted_to_other_trials(counts, monkeypatch):
    from ibl_mtm.evaluation.baselines import autoregressive

    fitted = []
    model = autoregressive._Model

    class Recorded(model):  # type: ignore[valid-type, misc]
        def __init__(self, known: np.ndarray) -> None:
            fitted.append(known)
            self.known = {trial.tobytes() for trial in known}
            super().__init__(known)

        def roll_out(self, fit: object, asked: np.ndarray, bins: slice) -> np.ndarray:
            assert not any(trial.tobytes() in self.known for trial in asked)
            return super().roll_out(fit, asked, bins)

    monkeypatch.setattr(autoregressive, "_Model", Recorded)
    autoregressive.choose(data_of(counts), "forward_prediction")
    assert len(fitted) == autoregressive.FOLDS


def test_the_decoders_here_have_enough_of_every_class(counts):
    """Or the checks above would be of nothing."""
    y, fit_at, test_at = class_trials(classes(counts), FIT, TEST)
    assert min(np.unique(y[fit_at], return_counts=True)[1]) > 15
    assert min(np.unique(y[test_at], return_counts=True)[1]) >= 3
