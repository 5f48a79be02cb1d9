"""Baselines of one idea each: what they may not see or know, and numbers by hand."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load
from test_run import other_test

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict import activity_baselines, baselines, unit_regions
from ibl_mtm.benchmark.predict.activity_baselines import (
    KnownWindows,
    PopulationCoupling,
    TrailingMean,
    poisson_lds,
    population_coupling,
    reduced_rank,
    trailing_mean,
)
from ibl_mtm.benchmark.predict.baselines import fit_activity, predict_activity
from ibl_mtm.benchmark.predict.decoded import predict_behaviour
from ibl_mtm.benchmark.predict.registry import BASELINES
from ibl_mtm.benchmark.predict.requests import Request, run_benchmark
from ibl_mtm.benchmark.predict.unit_features import HISTOGRAM, firing_features, interval_histogram
from ibl_mtm.benchmark.submission import Place
from ibl_mtm.benchmark.tasks import TASKS, choose_tasks
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.evaluation.baselines.poisson import LowRank
from ibl_mtm.model.dynamics import fit

CO, FORECAST = TASKS["ts2-co_smoothing"], TASKS["ts2-forecasting"]
FITS = [
    (name, task)
    for name, baseline in BASELINES.items()
    for task in (CO, FORECAST)
    if task.name in baseline.tasks
]


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly fitted: of how well they predict nothing is asked here."""
    monkeypatch.setattr(activity_baselines, "_COMPONENTS", 3)
    monkeypatch.setattr(activity_baselines, "_WIDTHS", (3.0,))
    monkeypatch.setattr(activity_baselines, "_PENALTIES", (3.0, 1.0))
    monkeypatch.setattr(activity_baselines, "_RANKS", (2,))
    monkeypatch.setattr(LowRank.fit, "__defaults__", (6,))
    monkeypatch.setattr(fit, "ITERATIONS", 6)


def made(n_units: int = 6, n: int = 40, hidden: int = 2, task=CO, seed: int = 0) -> KnownWindows:
    """Windows of random counts, of units that follow one course."""
    rng = np.random.default_rng(seed)
    course = np.exp(0.8 * np.sin(np.linspace(0, 9, 50)) + rng.normal(0, 0.5, (n, 1)))
    counts = {s: rng.poisson(0.5 * course[..., None], (n, 50, n_units)) for s in ("train", "val")}
    starts = {"train": np.arange(n) * 2.0, "val": 200.0 + np.arange(n) * 2.0}
    columns = np.arange(n_units - hidden, n_units) if task is CO else np.arange(n_units)
    visible = np.arange(n_units - hidden) if task is CO else np.arange(n_units)
    return KnownWindows(task, counts, starts, visible, columns)


def test_every_baseline_of_activity_can_be_fitted_and_no_other() -> None:
    assert set(baselines._FITS) == {name for name, _ in FITS}
    assert all(set(b.tasks) <= set(TASKS) and b.tasks for b in BASELINES.values())
    assert BASELINES["isi_histogram"].suites == {"ts3"}
    assert BASELINES["reduced_rank"].suites == {"ts1", "ts2"}


@pytest.mark.parametrize(("name", "task"), FITS, ids=str)
def test_nothing_of_the_test_domain_is_fitted(
    data: BenchmarkData, tmp_path: Path, name: str, task
) -> None:
    """Windows of val are predicted the same, to the bit, whatever spikes test has."""
    eid = data.recordings[0]
    predicted, tests = [], []
    for source in (data, other_test(data, tmp_path, eid)):
        with source.open("ts2", eid) as recording:
            fitted = fit_activity(recording, task, name)
            truth = NeuralTruth.of(recording, task, "val")
            _, counts = next(NeuralTruth.of(recording, task, "test").windows())
        tests.append(counts)
        part = replace(truth, pieces=truth.pieces[:2])
        predicted.append(np.concatenate([p for _, p in predict_activity(fitted, part)]))
    assert not np.array_equal(*tests)
    np.testing.assert_array_equal(*predicted)


@pytest.mark.parametrize(("name", "task"), FITS, ids=str)
def test_what_is_asked_for_is_not_looked_at(data: BenchmarkData, name: str, task) -> None:
    with data.open("ts2", data.recordings[0]) as recording:
        fitted = fit_activity(recording, task, name)
        truth = NeuralTruth.of(recording, task, "test")
        part, counts = next(truth.windows())
    starts = truth.starts[part]
    expected = fitted.log_rates(counts, starts)
    n_bins = 50 if task is CO else 5
    assert expected.shape == (len(counts), n_bins, len(truth.columns))
    assert np.isfinite(expected).all()
    assert expected.std() > 0
    other, seen = counts.copy(), counts.copy()
    asked = (..., truth.columns) if task is CO else (slice(None), slice(-5, None))
    other[asked] = np.random.default_rng(0).integers(0, 9, other[asked].shape)
    np.testing.assert_array_equal(fitted.log_rates(other, starts), expected)
    seen[:, 20:45, np.setdiff1d(np.arange(truth.n_units), truth.columns if task is CO else [])] += 1
    assert not np.array_equal(fitted.log_rates(seen, starts), expected)


class Constant:
    """Predicts one rate for everything."""

    def __init__(self, log_rate: float) -> None:
        self.log_rate = log_rate

    def log_rates(self, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
        return np.full((len(counts), 50, 2), self.log_rate)


def test_of_candidates_that_val_likes_alike_the_first_is_taken() -> None:
    known = made()
    rate = float(np.log(known.asked("val").mean()))
    poor, best, same = Constant(rate + 1), Constant(rate), Constant(rate)
    assert known.best([poor, best, same]) is best
    assert known.best([best, poor]) is best
    silent = replace(known, counts={s: of * 0 for s, of in known.counts.items()})
    assert silent.best([poor, best]) is poor  # nobody has a score


@pytest.mark.parametrize(
    ("hidden", "visible", "ranks"),
    [(1, 5, [1]), (2, 4, [2]), (3, 5, [2]), (4, 6, [2]), (5, 6, [2, 4]), (6, 4, [2])],
)
def test_ranks_are_below_what_weights_can_have(
    monkeypatch: pytest.MonkeyPatch, hidden: int, visible: int, ranks: list[int]
) -> None:
    """Each under the penalty that was chosen for all weights, and under less."""
    fits: list[tuple[int, float]] = []

    def fitted(self: LowRank, penalty: float, rank: int, start: object) -> object:
        fits.append((rank, penalty))
        return start

    monkeypatch.setattr(activity_baselines, "_RANKS", (2, 4, 8))
    monkeypatch.setattr(activity_baselines, "_PENALTIES", (3.0,))
    monkeypatch.setattr(LowRank, "fit", fitted)
    reduced_rank(made(n_units=hidden + visible, n=12, hidden=hidden))
    assert fits == [(rank, pytest.approx(3.0 * share)) for rank in ranks for share in (1.0, 0.3)]


def test_silent_units_tell_nothing_and_are_no_trouble() -> None:
    known = made(n=12)
    known.counts["train"][..., known.visible] = 0
    coupled = population_coupling(known)
    assert coupled.scale == 1
    silent = made(n=12)
    silent.counts["train"][..., 0] = 0
    for fitted, of in ((coupled, known), (reduced_rank(silent), silent)):
        assert np.isfinite(fitted.log_rates(of.counts["val"])).all()
    assert fitted.features.scale[0] == 1


@pytest.mark.parametrize("task", [CO, FORECAST], ids=str)
def test_dynamics_are_asked_for_what_is_hidden_within_limits(task) -> None:
    """Without times, as one that does not drift may be."""
    n_steps, columns = task.n_steps, np.array([1, 3])
    shown, told = [], torch.tensor([-99.0, 99.0]).expand(2, n_steps, 2)

    class System:
        def gains(self, times: object, n: int) -> None:
            assert (times, n) == (None, 2)

        def infer(self, counts: torch.Tensor, visible: torch.Tensor, gains: None) -> Any:
            shown.append(visible[0].expand(50, 4))
            return SimpleNamespace(last=lambda n: n)

        def log_rates(self, posterior: int, units: torch.Tensor) -> torch.Tensor:
            assert (posterior, units.tolist()) == (n_steps, [1, 3])
            return told

    system: Any = System()
    model = activity_baselines.DynamicsOfActivity(task, columns, system)
    found = model.log_rates(np.zeros((2, 50, 4), np.uint8))
    assert found.dtype == np.float64
    assert (found == [-14.0, 8.0]).all()
    hidden = np.zeros((50, 4), bool)
    hidden[np.s_[:, columns] if task is CO else np.s_[45:]] = True
    np.testing.assert_array_equal(~shown[0].numpy(), hidden)


def test_log_rates_of_weighted_units_have_a_limit() -> None:
    fitted = reduced_rank(made(n=12))
    low = replace(fitted.fit, intercept=fitted.fit.intercept * 0 - 40)
    found = replace(fitted, fit=low).log_rates(made(n=3).counts["val"])
    assert found == pytest.approx(-14.0)


def test_a_trailing_mean_by_hand() -> None:
    counts = np.zeros((2, 50, 2), int)
    counts[0, 35:45, 0] = [0, 0, 0, 0, 0, 3, 0, 1, 0, 0]
    counts[0, 45:, 0] = 9  # asked for
    model = TrailingMean(np.array([0.2, 0.4]), n_bins=5, prior=10.0)
    rates = np.exp(model.log_rates(counts))
    assert rates.shape == (2, 5, 2)
    assert rates[0, :, 0] == pytest.approx(np.full(5, (4 + 10 * 0.2) / 15))
    assert rates[0, :, 1] == pytest.approx(np.full(5, 10 * 0.4 / 15))
    assert rates[1, :, 0] == pytest.approx(np.full(5, 10 * 0.2 / 15))


def test_a_trailing_mean_is_as_long_as_val_says() -> None:
    """Where rates differ from window to window alone, all bins tell, and the mean tells little."""
    rng = np.random.default_rng(0)
    rate = rng.gamma(1.0, 0.5, (300, 1, 4))
    counts = {s: rng.poisson(np.repeat(rate, 50, 1)) for s in ("train", "val")}
    model = trailing_mean(replace(made(task=FORECAST), counts=counts, columns=np.arange(4)))
    assert (model.n_bins, model.prior) == (45, 2.0)
    assert model.mean == pytest.approx(counts["train"].mean((0, 1)), rel=1e-3)
    constant = {s: rng.poisson(0.3, (300, 50, 4)) for s in ("train", "val")}
    model = trailing_mean(replace(made(task=FORECAST), counts=constant, columns=np.arange(4)))
    assert model.prior >= 250.0


def test_coupling_to_the_population_is_found() -> None:
    """Hidden units whose log rate follows the summed counts, one up and one down."""
    rng = np.random.default_rng(1)
    known = made(n_units=8, n=200, task=CO)
    summed = activity_baselines._summed(known.counts["train"], known.visible, 3.0)
    z = (summed - summed.mean()) / summed.std()
    for sign, unit in ((0.5, 6), (-0.3, 7)):
        known.counts["train"][..., unit] = rng.poisson(np.exp(-1 + sign * z))
    fitted = population_coupling(known)
    assert fitted.weight == pytest.approx([0.5, -0.3], abs=0.06)
    assert fitted.offset == pytest.approx([-1, -1], abs=0.06)
    # As many spikes of another visible unit are the same to it.
    counts = known.counts["val"]
    swapped = counts.copy()
    swapped[..., [0, 5]] = swapped[..., [5, 0]]
    np.testing.assert_allclose(fitted.log_rates(swapped), fitted.log_rates(counts))


def test_the_population_s_sum_is_smoothed_within_a_window() -> None:
    counts = np.zeros((2, 50, 3), int)
    counts[0, 25, :2] = 1
    model = PopulationCoupling(np.arange(3), 3.0, 0.0, 1.0, np.ones(1), np.zeros(1))
    log_rates = model.log_rates(counts)[..., 0]
    assert not log_rates[1].any()
    assert log_rates[0].sum() == pytest.approx(2.0)
    assert log_rates[0].argmax() == 25


def test_weights_of_low_rank_have_it() -> None:
    known = made(n_units=10, n=60, hidden=4)
    fitted = reduced_rank(known)
    assert fitted.fit.weights.shape == (6, 4)
    assert np.linalg.matrix_rank(fitted.fit.weights, tol=1e-5) == 2
    x = fitted.features(known.counts["train"])
    assert x.mean((0, 1)) == pytest.approx(np.zeros(6), abs=1e-4)
    assert x.std((0, 1)) == pytest.approx(np.ones(6), rel=1e-4)
    # They tell of hidden units: all follow one course.
    asked = known.asked("val")
    log_rates = fitted.log_rates(known.counts["val"])
    mean = np.full_like(log_rates, np.log(asked.mean()))

    def fits(f: np.ndarray) -> float:
        return float((asked * f - np.exp(f)).sum())

    assert fits(log_rates) > fits(mean) + 50


def test_a_unit_that_drifted_is_known_by_the_time(data: BenchmarkData) -> None:
    known = made(n_units=8, n=120)  # of which the last two are hidden
    rng = np.random.default_rng(2)
    late = known.starts["train"] > 120
    for split, rate in (("train", np.where(late, 1.2, 0.2)), ("val", np.full(120, 1.2))):
        known.counts[split][..., -1] = rng.poisson(np.repeat(rate[:, None], 50, 1))
    drifting, still = (poisson_lds(known, drift=drift) for drift in (True, False))
    assert drifting.system.drift is not None
    assert still.system.drift is None
    counts = known.counts["val"][:20]
    early, later = (drifting.log_rates(counts, np.full(20, at)) for at in (20.0, 230.0))
    assert (later[..., -1] > early[..., -1] + 0.5).all()
    same = [still.log_rates(counts, np.full(20, at)) for at in (20.0, 230.0)]
    np.testing.assert_array_equal(*same)
    # Val is fitted to, too: nothing is chosen on it.
    known.counts["val"][..., -1] = 0
    assert not torch.equal(poisson_lds(known).system.offset, still.system.offset)


def test_a_system_that_does_not_fit_is_the_recording_s_failure(
    data: BenchmarkData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ArithmeticError("log rates are not finite")

    monkeypatch.setattr(activity_baselines, "fit_dynamics", fail)
    with (
        data.open("ts2", data.recordings[0]) as recording,
        pytest.raises(SessionError, match="poisson_lds does not fit it"),
    ):
        fit_activity(recording, CO, "poisson_lds")


def test_a_baseline_predicts_the_tasks_that_it_knows(data: BenchmarkData, tmp_path: Path) -> None:
    eid = data.recordings[0]
    asked = Request(data, tmp_path, "t", [1], recordings=[eid], baseline="trailing_mean")
    report = run_benchmark(asked)
    assert report.written == [f"t/ts2-forecasting/{eid}/seed_1.safetensors"]
    assert report.failed == {}
    other = choose_tasks(["ts1"])
    with pytest.raises(UserError, match="'trailing_mean' predicts ts2-forecasting alone"):
        run_benchmark(Request(data, tmp_path, "u", [1], other, [eid], baseline="trailing_mean"))
    assert not (tmp_path / "u").exists()


def test_a_trace_by_a_regression_of_low_rank(data: BenchmarkData) -> None:
    """What a test window adds to the course that all have lies in as many courses as the rank."""
    task = TASKS["ts1-wheel_speed"]
    with data.open("ts1", data.recordings[0]) as recording:
        found = predict_behaviour(recording, task, low_rank=True)
        sample_by_sample = predict_behaviour(recording, task)
    assert found.chosen["rank"] in (1, 2, 4)
    traces = found.tensors["predictions"][..., 0].astype(np.float64)
    away = traces - traces.mean(0)
    assert np.linalg.matrix_rank(away, tol=1e-3 * np.abs(away).max()) <= found.chosen["rank"]
    assert not np.array_equal(found.tensors["predictions"], sample_by_sample.tensors["predictions"])


def test_intervals_alone_are_what_the_histogram_is_of(
    data: BenchmarkData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other rates and autocorrelograms make no difference; other histograms do."""
    with data.open("ts3", data.recordings[0]) as recording:
        spikes = recording.spikes()
        features = firing_features(recording)
    own = interval_histogram(spikes.times[spikes.units == 3])
    np.testing.assert_array_equal(features[3, HISTOGRAM], own)
    linear = next(unit_regions._classifiers(0))
    monkeypatch.setattr(unit_regions, "_classifiers", lambda seed: iter([linear]))
    task, found = TASKS["ts3-unit_cosmos"], {}
    rng = np.random.default_rng(0)
    for name, columns in (("as they are", []), ("rest", "rest"), ("histogram", HISTOGRAM)):

        def changed(recording, columns=columns) -> np.ndarray:  # type: ignore[no-untyped-def]
            values = firing_features(recording)
            at = np.zeros(values.shape[1], bool)
            at[HISTOGRAM] = True
            at = at if isinstance(columns, slice) else ~at if columns else at & False
            values[:, at] = rng.normal(size=(len(values), at.sum()))
            return values

        monkeypatch.setattr(unit_regions, "firing_features", changed)
        request = Request(data, tmp_path / name, "i", [1], [task], baseline="isi_histogram")
        assert run_benchmark(request).failed == {}
        file = tmp_path / name / Place("i", task.name, "", 1).path
        found[name] = load(file.read_bytes())["pred_proba"]
    np.testing.assert_array_equal(found["rest"], found["as they are"])
    assert not np.array_equal(found["histogram"], found["as they are"])
