"""What a model makes of windows: beside each window on its own, with weights drawn at random."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.metrics import PoissonSums
from ibl_mtm.benchmark.predict import neural
from ibl_mtm.benchmark.predict.adaptation import WINDOWS, adaptation_data
from ibl_mtm.benchmark.predict.features import window_features
from ibl_mtm.benchmark.predict.neural import choose_share, infer_in_turn, predict_windows
from ibl_mtm.benchmark.tasks import BIN, N_BINS, N_FORECAST, TASKS
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.brainsets.intervals import inside
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.model.dynamics.system import LinearDynamics
from ibl_mtm.model.group import Group
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.settings import read_run_settings

LONG = TrialFormat(100, 0.02, "contiguous", -1.0)


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


def make_model(recording: Recording, format_: TrialFormat, dynamics: int) -> MtM:
    small = ["model.width=16", "model.mlp=16", "model.heads=2", f"model.dynamics={dynamics}"]
    settings = read_run_settings("benchmark", small).model
    units = tuple(recording.unit_ids[::-1].tolist())  # rows in another order than the file's
    model = MtM(settings, Scope(units, (recording.eid,), (), format_, ("neuron", "causal"))).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for table in (model.read_in, model.read_out, model.read_out_bias):
            table.normal_(std=0.3, generator=generator)
        for weight in model.blocks.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    if dynamics:
        model.dynamics_share.fill_(0.6)
        model.dynamics_offset.normal_(-2, 0.5, generator=generator)
        model.dynamics_loading.normal_(std=0.3, generator=generator)
        model.dynamics_course.normal_(std=0.2, generator=generator)
        model.dynamics_transition[:] = 0.9 * torch.eye(dynamics)
        model.dynamics_noise[:] = 0.19 * torch.eye(dynamics)
        # Units drift by a fifth or so within the recording.
        model.dynamics_gain.normal_(std=0.2, generator=generator)
        model.dynamics_gain_variance.fill_(0.05)
        model.dynamics_gain_spread.fill_(0.5)
        domain = recording.domain("ts2_train")
        model.dynamics_span[:] = torch.tensor([domain.min(), domain.max()])
    return model


def rows_of(model: MtM, recording: Recording) -> torch.Tensor:
    return torch.tensor([model.scope.units.index(unit) for unit in recording.unit_ids])


@pytest.mark.parametrize("name", ["ts2-co_smoothing", "ts2-forecasting"])
@pytest.mark.parametrize(("format_", "dynamics"), [(WINDOWS, 3), (WINDOWS, 0), (LONG, 3)])
def test_predictions_are_those_of_each_window_on_its_own(
    data: BenchmarkData, name: str, format_: TrialFormat, dynamics: int
) -> None:
    """And what is asked for is hidden: other counts there change nothing."""
    with data.open("ts2", data.recordings[0]) as recording:
        truth, units = NeuralTruth.of(recording, TASKS[name], "test"), recording.unit_ids
        truth = replace(truth, pieces=truth.pieces[1:4])
        model = make_model(recording, format_, dynamics)
        predicted = np.concatenate(
            [p for _, p in predict_windows(model, recording.eid, units, truth)]
        )
        rows = rows_of(model, recording)
    n_before = format_.n_time - 50
    windows = np.concatenate([counts for _, counts in truth.windows(n_before)])
    assert len(predicted) == len(windows) == len(truth.starts)
    rng = np.random.default_rng(0)
    for at in (0, 1, len(windows) // 2, len(windows) - 1):
        counts = windows[at].astype(int)
        hidden = np.zeros((format_.n_time, len(units)), bool)
        if name == "ts2-forecasting":
            hidden[-5:] = True
            scheme, step, unit = "causal", slice(-5, None), slice(None)
        else:
            hidden[:, truth.columns] = True
            scheme, step, unit = "neuron", slice(-50, None), truth.columns
        counts[hidden] = rng.integers(0, 9, hidden.sum())
        mask = torch.from_numpy(hidden)[None]
        mask = mask[:, :, :1] if name == "ts2-forecasting" else mask
        group = Group(torch.from_numpy(counts)[None], mask, rows, 0, scheme, scheme == "causal")
        group = replace(group, times=torch.tensor([truth.starts[at]], dtype=torch.float64))
        with torch.inference_mode():
            expected = model.blend(model([group])[0], group)[0].numpy()
        # Where units drift a mode is known to about this.
        np.testing.assert_allclose(predicted[at], expected[step][:, unit], atol=1e-2)


def test_short_trials_are_predicted_together(data: BenchmarkData) -> None:
    """In parts of up to 256 windows, each of whole trials, that leave no window out."""
    with data.open("ts2", data.recordings[0]) as recording:
        truth = NeuralTruth.of(recording, TASKS["ts2-forecasting"], "test")
        truth = replace(truth, pieces=truth.pieces[:9])
        model = make_model(recording, WINDOWS, 0)
        units = recording.unit_ids
        parts = [part for part, _ in predict_windows(model, recording.eid, units, truth)]
    edges = np.cumsum([0, *map(len, truth.pieces)]).tolist()
    assert [part.start for part in parts] == [0, *(part.stop for part in parts[:-1])]
    assert parts[-1].stop == edges[-1]
    assert 1 < len(parts) < len(truth.pieces)
    assert all(part.stop in edges and part.stop - part.start <= 256 for part in parts)


@pytest.mark.parametrize(("bias", "limit"), [(99.0, 8.0), (-99.0, -16.0)])
def test_log_rates_are_what_half_precision_can_hold(
    data: BenchmarkData, bias: float, limit: float
) -> None:
    with data.open("ts2", data.recordings[0]) as recording:
        truth = NeuralTruth.of(recording, TASKS["ts2-forecasting"], "val")
        truth = replace(truth, pieces=[truth.pieces[0][:3]])
        model = make_model(recording, WINDOWS, 0)
        with torch.no_grad():
            model.read_out_bias.fill_(bias)
        ((_, found),) = predict_windows(model, recording.eid, recording.unit_ids, truth)
    assert (found == limit).all()


def test_trials_are_joined_as_long_as_they_have_256_windows_at_most() -> None:
    """And each window's bins are found behind those of the trials before it."""
    lengths, parts, first = (200, 56, 1, 300, 10), [], 0
    for trial, n in enumerate(lengths):
        bins = np.full((n + 1, 2), trial)
        parts.append((slice(first, first + n), bins, np.arange(n)[:, None] + np.arange(2)))
        first += n
    joined = list(neural._together(iter(parts)))
    assert [(part.start, part.stop) for part, *_ in joined] == [
        (0, 256), (256, 257), (257, 557), (557, 567),
    ]  # fmt: skip
    for part, bins, which in joined:
        trial = np.repeat(np.arange(5), lengths)[part]
        assert len(which) == part.stop - part.start
        np.testing.assert_array_equal(bins[which][..., 0], np.stack([trial, trial], axis=1))
    _, bins, which = joined[0]
    assert (len(bins), which.max(), which[200].tolist()) == (201 + 57, 257, [201, 202])
    assert list(neural._together(iter([]))) == []


def test_windows_that_follow_each_other_have_the_modes_of_their_own(
    data: BenchmarkData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found beside a neighbour's, with less work, over trials and their last windows."""
    with data.open("ts2", data.recordings[0]) as recording:
        truth = NeuralTruth.of(recording, TASKS["ts2-forecasting"], "test")
        truth = replace(truth, pieces=truth.pieces[1:3])
        model = make_model(recording, WINDOWS, 3)
        rows = rows_of(model, recording)
    counts = np.concatenate([counts for _, counts in truth.windows()]).astype(np.int16)
    hidden = torch.zeros(1, 50, 1, dtype=torch.bool)
    hidden[:, -5:] = True
    group = Group(torch.from_numpy(counts), hidden, rows, 0, "causal", causal=True)
    group = replace(group, times=torch.from_numpy(truth.starts))
    looked: list[int] = []
    rates = LinearDynamics._rates

    def note(self: LinearDynamics, z: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
        looked.append(len(z))
        return rates(self, z, *more)

    monkeypatch.setattr(LinearDynamics, "_rates", note)
    with torch.inference_mode():
        alone = model.infer_dynamics(group)
        n_alone, _ = sum(looked), looked.clear()
        system = model.dynamics_of(group.units, group.session)
        in_turn = infer_in_turn(system, group.counts, ~hidden, torch.from_numpy(truth.starts))
    assert sum(looked) < 0.8 * n_alone
    assert alone.gain is not None
    assert in_turn.gain is not None
    # Of log rates, which is what is used of them.
    away = (system.log_rates(in_turn) - system.log_rates(alone)).abs()
    assert away.max() < 1e-2
    assert away.mean() < 5e-4


def test_no_window_begins_where_a_later_one_has_seen_what_it_forecasts() -> None:
    """In double precision, where nothing but the start could tell."""
    g = torch.Generator().manual_seed(2)
    n_units, n_components, n_windows, bins = 6, 2, 20, torch.arange(N_BINS)
    eye = torch.eye(n_components).double()
    system = LinearDynamics(
        torch.randn(n_units, n_components, generator=g).double(),
        torch.zeros(n_units).double(),
        0.95 * eye,
        0.1 * eye,
        eye,
        torch.zeros(N_BINS, n_components).double(),
    )
    whole = torch.poisson(torch.full((n_windows + N_BINS, n_units), 0.7), generator=g).double()
    visible = (bins < N_BINS - N_FORECAST)[None, :, None]
    times = 3.0 + BIN * torch.arange(n_windows).double()

    def means(counts: torch.Tensor) -> torch.Tensor:
        windows = torch.stack([counts[at : at + N_BINS] for at in range(n_windows)])
        return infer_in_turn(system, windows, visible, times).mean

    before = means(whole)
    for window in (1, 5, 7, 12):
        changed = whole.clone()
        changed[window + N_BINS - N_FORECAST :] += 3
        after = means(changed)
        torch.testing.assert_close(after[: window + 1], before[: window + 1], rtol=0, atol=1e-10)
        assert not torch.allclose(after[window + 1 :], before[window + 1 :], atol=0.1)


@pytest.mark.parametrize(
    ("name", "bad", "likes"),
    [
        ("ts2-co_smoothing", "dynamics", "0"),
        ("ts2-co_smoothing", "transformer", "0.6"),
        ("ts2-forecasting", "dynamics", "0"),
        ("ts2-forecasting", "transformer", "0.6"),
    ],
)
def test_the_share_of_dynamics_is_what_val_likes_best(
    data: BenchmarkData, name: str, bad: str, likes: str
) -> None:
    """Little or none of those that are far too high; all of it where the transformer is worse."""
    with data.open("ts2", data.recordings[0]) as recording:
        truth, units = NeuralTruth.of(recording, TASKS[name], "val"), recording.unit_ids
        truth = replace(truth, pieces=truth.pieces[:4])
        model, eid = make_model(recording, WINDOWS, 3), recording.eid
        with torch.no_grad():
            if bad == "dynamics":  # hidden units fire too much, and hidden bins may do anything
                model.dynamics_offset.add_(4.0)
                model.dynamics_noise.mul_(50.0)
                model.dynamics_share.fill_(0.9)
            else:
                model.dynamics_loading.mul_(0.1)
                model.read_out_bias.add_(4.0)
        index = 0 if name == "ts2-co_smoothing" else 1
        others = np.delete(model.dynamics_share.numpy(), index).copy()
        scores = choose_share(model, eid, units, truth)
        assert list(scores) == ["0.9" if bad == "dynamics" else "0.6", "0"]
        best = max(scores, key=lambda share: scores[share])
        assert best == likes
        assert model.dynamics_share[index] == pytest.approx(float(best))
        np.testing.assert_array_equal(np.delete(model.dynamics_share.numpy(), index), others)
        if name == "ts2-forecasting":
            sums = PoissonSums(len(truth.columns))
            predicted = np.concatenate([p for _, p in predict_windows(model, eid, units, truth)])
            sums.add(predicted, np.concatenate([counts for _, counts in truth.targets()]))
            assert scores[best] == pytest.approx(sums.scores()["poisson_d2"], abs=1e-6)
        model.dynamics_share.zero_()
        assert choose_share(model, eid, units, truth) == {}


def test_five_tenths_of_the_units_are_hidden_to_choose_by(data: BenchmarkData) -> None:
    with data.open("ts2", data.recordings[0]) as recording:
        co, forecast = (
            NeuralTruth.of(recording, TASKS[name], "val", spikes=False)
            for name in ("ts2-co_smoothing", "ts2-forecasting")
        )
    assert neural._folds(forecast) == [forecast]
    folds = [fold.columns.tolist() for fold in neural._folds(co)]
    assert folds == [list(range(at, co.n_units, 10)) for at in (0, 2, 4, 6, 8)]
    few = [fold.columns.tolist() for fold in neural._folds(replace(co, n_units=4))]
    assert few == [[0], [2]]


def test_windows_to_choose_by_are_thinned_in_every_trial() -> None:
    pieces = [np.arange(n) / 50 for n in (1200, 3, 900)]
    thinned = neural._thinned(pieces)
    assert [len(starts) for starts in thinned] == [240, 1, 180]
    assert thinned[2][1] == 5 / 50
    assert [len(starts) for starts in neural._thinned(pieces[1:2])] == [3]


@pytest.mark.parametrize(("format_", "dynamics"), [(WINDOWS, 3), (LONG, 0)])
def test_features_are_of_the_second_that_is_asked_for(
    data: BenchmarkData, format_: TrialFormat, dynamics: int
) -> None:
    """With a model of longer windows too, whose earlier bins are context alone."""
    with data.open("ts2", data.recordings[0]) as recording:
        spikes, units = recording.spikes(), recording.unit_ids
        model = make_model(recording, format_, dynamics)
        rows = rows_of(model, recording)
        starts = recording.domain("ts2_train")[0, 0] + 10 + np.arange(40) * 1.7
        features = window_features(recording, starts, model)
    n_time = format_.n_time
    for at in (0, 33, 39):
        counts = np.zeros((n_time, len(units)), int)
        for time, unit in zip(spikes.times, spikes.units, strict=True):
            bin_ = int(np.floor((time - starts[at]) * 50)) + n_time - 50
            if 0 <= bin_ < n_time:
                counts[bin_, unit] += 1
        nothing = torch.zeros(1, 1, 1, dtype=torch.bool)
        group = Group(torch.from_numpy(counts)[None], nothing, rows, 0, "neuron")
        group = replace(group, times=torch.tensor(starts[at : at + 1]))
        with torch.inference_mode():
            states = model.encode([group])
            rates = model.blend(model.decode(states, group), group)
        np.testing.assert_allclose(features["states"][at], states[0, -50:], atol=1e-4)
        np.testing.assert_allclose(features["rates"][at], rates[0, -50:], atol=5e-3)
    assert features["spikes"].shape == (40, 50, len(units))


def test_windows_are_labelled_by_their_domain_and_rates_are_of_them(data: BenchmarkData) -> None:
    with data.open("ts2", data.recordings[0]) as recording:
        ds, _ = adaptation_data(recording, "ts2")
        windows = np.stack([ds.window_start.values, ds.window_start.values + 1.0], 1)
        for split in ("train", "val"):
            within = inside(windows, recording.domain(f"ts2_{split}"))
            np.testing.assert_array_equal(ds.split.values == split, within)
    rates = ds.spikes.sum(("trial", "time")) / len(windows)
    np.testing.assert_allclose(ds.firing_rate, rates, rtol=1e-6)
