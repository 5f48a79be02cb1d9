"""Small steps of the benchmark by hand: what a unit is known by, candidates, cells of a table."""

import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ibl_mtm.benchmark import results, truth
from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.metrics import PoissonSums, score_trials
from ibl_mtm.benchmark.predict import activity_baselines, baselines, decoded, end_to_end
from ibl_mtm.benchmark.predict.end_to_end import Schedule
from ibl_mtm.benchmark.predict.unit_features import firing_features
from ibl_mtm.benchmark.ranks import competition_ranks
from ibl_mtm.benchmark.submission import Entry
from ibl_mtm.benchmark.tasks import COSMOS_LABELS, TASKS
from ibl_mtm.brainsets.recording import Spikes
from ibl_mtm.errors import SessionError, UserError


def test_what_a_unit_is_known_by() -> None:
    """Three spikes of the unit 1 in eight seconds: 4 ms apart, and far; the unit 2 is silent."""
    spikes = Spikes(np.array([1.0, 2.0, 2.004, 6.0, 9.0]), np.array([0, 1, 1, 1, 0]))
    recording: Any = SimpleNamespace(spikes=lambda: spikes, unit_ids=np.array(["a", "b", "c"]))
    found = firing_features(recording)
    assert found.shape == (3, 50)
    rate = 3.5 / 8
    np.testing.assert_allclose(found[:, 0], np.log([2.5 / 8, rate, 0.5 / 8]))
    edges = np.logspace(-3, 1, 25)
    shares = np.array([((d >= edges[:-1]) & (d < edges[1:])) for d in (0.004, 3.996)]).sum(0) / 2
    np.testing.assert_allclose(found[1, 1:25], np.log(shares + 0.003))
    after = np.zeros(25)
    after[1] = 1 / (3.5 * 0.004 * rate)  # 4 ms is in the bin from 4 to 8 ms
    np.testing.assert_allclose(np.sort(found[1, 25:]), np.sort(np.log(after + 0.05)))
    np.testing.assert_allclose(found[2, 25:], np.log(0.05))


def test_without_spikes_and_of_less_than_a_second() -> None:
    def rates(*times: float) -> list[float]:
        spikes = Spikes(np.array(times), np.zeros(len(times), int))
        recording: Any = SimpleNamespace(spikes=lambda: spikes, unit_ids=np.array(["a"]))
        return np.exp(firing_features(recording)[:, 0]).tolist()

    assert rates() == pytest.approx([0.5])
    assert rates(3.0, 3.5) == pytest.approx([2.5])
    assert rates(3.0, 7.0) == pytest.approx([2.5 / 4])


@pytest.mark.parametrize(("regime", "kept"), [("eval", [2, 6]), ("pretrain", [2, 4, 6])])
def test_units_whose_regions_count(regime: Any, kept: list[int]) -> None:
    rows = [  # quality, alignment, label, rate, region
        ("PASS", "FAIL", 1.0, 2.0, "CB"),
        ("PASS", "PASS", 0.9, 2.0, "CB"),
        ("PASS", "PASS", 1.0, 1.1, "TH"),
        ("PASS", "PASS", 1.0, 1.0, "TH"),
        ("WARNING", "PASS", 1.0, 2.0, "CB"),
        ("FAIL", "PASS", 1.0, 2.0, "CB"),
        ("PASS", "PASS", 1.0, 2.0, "CB"),
        ("PASS", "PASS", 1.0, 2.0, "void"),
    ]
    names = ["qc_neural", "qc_neural_alignment", "label", "firing_rate", "region_cosmos"]
    units = pd.DataFrame(rows, columns=names).assign(id=[f"u{n}" for n in range(8)])
    recording: Any = SimpleNamespace(eid="e", units=units)
    found = truth.scored_units(recording, regime)
    assert found.index.tolist() == kept
    assert found["id"].tolist() == [f"u{n}" for n in kept]
    regions = [COSMOS_LABELS[at] for at in found["target"]]
    assert regions == ["TH", "CB"] if regime == "eval" else ["TH", "CB", "CB"]
    assert len(set(found["name"])) == len(kept)


class TestTargets:
    def read(self, name: str, **more: Any) -> Any:
        values = {"licks": 0, "paw": 0, "value": 0}
        signal = TASKS[name].signal.partition("/")[2]
        series = SimpleNamespace(
            values={signal: np.arange(200.0) * more.get("scale", 1)},
            times=10 + np.arange(200) / 50,
            first=lambda start: np.round((start - 10) * 50).astype(int),
        )
        if TASKS[name].confident:
            series.values[TASKS[name].confident[0]] = np.arange(200) % 3 == 0

        class Series(SimpleNamespace):
            def __len__(self) -> int:
                return 200

        windows = pd.DataFrame({"trial_index": [4, 9], "start": more.get("start", [10.2, 12.0])})
        recording: Any = SimpleNamespace(
            series=lambda group: Series(**vars(series)),
            normalisation=lambda name: more.get("stored", (5.0, 2.0)),
            wrong=lambda why: SessionError("e", why),
        )
        assert values
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(truth, "trial_windows", lambda *a: windows)
            return truth.trial_truth(recording, TASKS[name], "test")

    def test_of_paws_are_normalised_and_masked(self) -> None:
        found = self.read("ts1-left_paw_speed")
        assert found.trial_id.tolist() == [4, 9]
        rows = np.stack([10 + np.arange(50), 100 + np.arange(50)])
        np.testing.assert_allclose(found.values[..., 0], (rows - 5) / 2)
        np.testing.assert_array_equal(found.mask, rows % 3 == 0)
        np.testing.assert_allclose(found.timestamps[0], np.arange(50) / 50, atol=1e-5)
        with pytest.raises(SessionError, match="no ts1_normalize"):
            self.read("ts1-left_paw_speed", stored=None)

    def test_of_the_wheel_are_as_they_are(self) -> None:
        found = self.read("ts1-wheel_speed", stored=None)
        np.testing.assert_allclose(found.values[1, :, 0], 100 + np.arange(50))
        assert found.mask is None

    def test_of_licks_are_numbers(self) -> None:
        found = self.read("ts1-licking_rate", stored=None, scale=50.0)
        np.testing.assert_allclose(found.values[0, :, 0], 10 + np.arange(50))

    @pytest.mark.parametrize(("start", "fits"), [(13.0, True), (13.02, False), (10.0, True),
                                                 (9.98, False)])  # fmt: skip
    def test_windows_lie_in_the_samples(self, start: float, fits: bool) -> None:
        if fits:
            assert len(self.read("ts1-wheel_speed", start=[start, 12.0]).values) == 2
        else:
            with pytest.raises(SessionError, match="reaches beyond the samples"):
                self.read("ts1-wheel_speed", start=[start, 12.0])


def test_the_mean_course_by_hand() -> None:
    target = np.array([[1.0, 2, 3], [5, 6, 7]])
    counts = np.array([[True, False, False], [True, True, False]])
    np.testing.assert_allclose(decoded._course(target, counts), [3, 6, 4])
    np.testing.assert_allclose(decoded._course(target, ~counts), [(2 + 3 + 7) / 3, 2, 5])
    np.testing.assert_allclose(decoded._course(target, np.zeros((2, 3), bool)), [0, 0, 0])


def test_a_task_without_a_window_is_that_recording_s_fault(monkeypatch: Any) -> None:
    for lacking in ("train", "val", "test"):
        monkeypatch.setattr(
            decoded,
            "trial_truth",
            lambda recording, task, split, lacking=lacking: SimpleNamespace(
                trial_id=np.arange(0 if split == lacking else 3)
            ),
        )
        recording: Any = SimpleNamespace(wrong=lambda why: SessionError("e", why))
        with pytest.raises(SessionError, match=f"no window of ts1-choice in ts1_{lacking}_domain"):
            decoded.predict_behaviour(recording, TASKS["ts1-choice"])


class TestEndToEnd:
    def test_what_is_said_before_anything_is_learned(self) -> None:
        choice, wheel, licks = (
            TASKS[f"ts1-{name}"] for name in ("choice", "wheel_speed", "licking_rate")
        )
        target = torch.tensor([[0.0], [1.0], [1.0], [1.0]])
        start = end_to_end._start(choice, target, torch.ones(4, 1, dtype=torch.bool))
        torch.testing.assert_close(start, torch.tensor([0.25, 0.75]).log())
        trace = torch.tensor([[1.0, 2.0, 9.0], [3.0, 5.0, 9.0]])
        there = torch.tensor([[True, True, False], [True, False, False]])
        start = end_to_end._start(wheel, trace, there)
        torch.testing.assert_close(start, torch.tensor([[2.0], [2.0], [0.0]]))
        start = end_to_end._start(licks, trace, there)
        torch.testing.assert_close(start, torch.tensor([[2.0], [2.0], [1e-3]]).log())

    def test_losses(self) -> None:
        wheel, licks = TASKS["ts1-wheel_speed"], TASKS["ts1-licking_rate"]
        said = torch.tensor([[[1.0], [2.0], [7.0]]])
        target = torch.tensor([[3.0, 2.5, 0.0]])
        there = torch.tensor([[True, True, False]])
        loss = end_to_end._loss(wheel, said, target, there, None)
        assert float(loss) == pytest.approx((4 + 0.25) / 2)
        nothing = torch.zeros(1, 3, dtype=torch.bool)
        assert float(end_to_end._loss(wheel, said, target, nothing, None)) == 0
        loss = end_to_end._loss(licks, said, target, there, None)
        expected = np.mean([np.e - 3 * 1, np.e**2 - 2.5 * 2])
        assert float(loss) == pytest.approx(expected, rel=1e-5)
        choice = TASKS["ts1-choice"]
        logits = torch.tensor([[[0.0, 1.0]], [[2.0, 0.0]]])
        weight = end_to_end._class_weights(choice, torch.tensor([[1.0], [1.0]]))
        assert weight is not None
        assert weight.tolist() == [0, 1]
        weight = torch.tensor([3.0, 1.0])
        loss = end_to_end._loss(choice, logits, torch.tensor([[1.0], [0.0]]), there, weight)
        own = -torch.log_softmax(logits[:, 0], 1)
        assert float(loss) == pytest.approx(float((own[0, 1] + 3 * own[1, 0]) / 4), rel=1e-5)

    def test_a_trace_is_its_course_and_what_each_bin_adds(self) -> None:
        head = end_to_end._Head(TASKS["ts1-wheel_speed"], 2, torch.arange(50.0)[:, None])
        torch.nn.init.constant_(head.weight, 2.0)
        h = torch.ones(3, 50, 2)
        torch.testing.assert_close(head(h)[1, :, 0], torch.arange(50.0) + 4)
        head = end_to_end._Head(TASKS["ts1-choice"], 2, torch.tensor([0.5, -0.5]))
        with torch.no_grad():
            head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
            head.when[7] = 1e4  # that bin alone
        h = torch.randn(3, 50, 2)
        expected = h[:, 7:8] + torch.tensor([0.5, -0.5])
        torch.testing.assert_close(head(h), expected)

    def test_how_long_and_how_fast(self) -> None:
        assert Schedule() == Schedule(200, 20, 32, 3e-3, 3e-4)


class TestALinearBaseline:
    def test_a_unit_without_a_spike_has_the_rate_of_half_a_spike(self, monkeypatch: Any) -> None:
        """And of others the fit is scikit-learn's, whose penalty grows with the mean count."""
        fits: list[Any] = []

        class Regressor:
            def __init__(self, alpha: float, max_iter: int) -> None:
                fits.append((alpha, max_iter))
                self.coef_, self.intercept_ = np.array([1.0, 2.0]), 3.0

            def fit(self, x: Any, y: Any) -> "Regressor":
                fits[-1] += (x.shape, y.tolist())
                return self

        monkeypatch.setattr(baselines, "PoissonRegressor", Regressor)
        monkeypatch.setattr(baselines, "_around", lambda *a: np.zeros((6, 50, 2)))
        counts = np.zeros((6, 50, 3))
        counts[2, :, 1] = 6
        reduced: Any = SimpleNamespace(n_components=2)
        columns = np.array([1, 2])
        found = baselines._fit(
            TASKS["ts2-co_smoothing"], counts, np.array([0]), columns, reduced, 0.5
        )
        ((alpha, _, shape, target),) = fits
        assert (alpha, shape) == (0.5, (300, 2))
        assert sum(target) == 300
        np.testing.assert_array_equal(found.weights, [[1, 0], [2, 0]])
        np.testing.assert_allclose(found.offset, [3, np.log(0.5 / 300)])


@pytest.mark.parametrize(
    ("sem", "over", "text"),
    [(0.0126, 0.2, "0.123 ± 0.013 (0.200)"), (np.nan, 0.2, "0.123 (0.200)"),
     (0.0126, np.nan, "0.123 ± 0.013"), (np.nan, np.nan, "0.123")],
)  # fmt: skip
def test_cells_of_a_table(sem: float, over: float, text: str) -> None:
    rows = {"task": ["t"], "label": ["a"], "score": [0.1234], "sem": [sem], "sem_recordings": over}
    summary = pd.DataFrame(rows).set_index(["task", "label"])
    assert results._cell(summary, "t", "a") == (0.1234, text)
    score, text = results._cell(summary, "t", "b")
    assert np.isnan(score)
    assert text == "–"


def test_the_best_of_several_is_bold() -> None:
    assert results._best([(0.2, "x"), (0.3, "y"), (np.nan, "–"), (0.3, "z")]) == [
        "x",
        "**y**",
        "–",
        "**z**",
    ]
    assert results._best([(0.2, "x"), (np.nan, "–")]) == ["x", "–"]
    assert results._best([(np.nan, "–")]) == ["–"]


def test_who_is_level_shares_a_place() -> None:
    nan = np.nan
    assert competition_ranks([0.3, 0.5, 0.5, 0.1], [nan] * 4, [1] * 4) == [3, 1, 1, 4]
    assert competition_ranks([0.3, 0.5], [0.0, 0.0], [3, 3]) == [2, 1]
    assert competition_ranks([0.49, 0.5], [0.2, 0.2], [3, 3]) == [1, 1]
    assert competition_ranks([0.1, 0.9], [0.01, 0.01], [3, 3]) == [2, 1]
    assert competition_ranks([], [], []) == []


def test_a_unit_that_is_rare_counts_in_neither_mean() -> None:
    sums = PoissonSums(3)
    assert np.isnan(sums.bits_per_spike())
    assert all(np.isnan(value) for value in sums.scores().values())
    counts = np.array([[2, 0, 1], [0, 0, 3]], np.uint8)
    sums.add(np.log([[1.5, 0.5, 2.0], [0.5, 0.5, 2.0]]), counts)
    d2 = sums.d2()
    mean = 1.0

    def deviance(y: Any, rate: Any) -> float:
        y, rate = np.asarray(y, float), np.asarray(rate, float)
        logs = np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / rate), 0)
        return float((logs - y + rate).sum())

    first = 1 - deviance([2, 0], [1.5, 0.5]) / deviance([2, 0], [mean, mean])
    assert d2[0] == pytest.approx(first, rel=1e-5)
    assert np.isnan(d2[1])
    assert d2[2] == pytest.approx(0, abs=1e-6)
    gain = (2 * np.log(1.5) - 2) - (0 - 2)  # the third unit is predicted by its mean
    assert sums.bits_per_spike() == pytest.approx(gain / 6 / np.log(2), rel=1e-5)
    assert sums.scores()["poisson_d2"] == pytest.approx(first / 2, rel=1e-5)


def test_samples_that_do_not_count_are_left_out() -> None:
    task = TASKS["ts1-wheel_speed"]
    values, said = np.arange(6.0).reshape(2, 3, 1), np.array([[0, 2, 9], [9, 4, 5.0]])[..., None]
    mask = np.array([[True, True, False], [False, True, True]])
    found = score_trials(task, said, values, mask)
    y, p = np.array([0, 1, 4, 5.0]), np.array([0, 2, 4, 5.0])
    assert found["mae"] == 0.25
    assert found["r2"] == pytest.approx(1 - 1 / ((y - y.mean()) ** 2).sum())
    assert found["pearson"] == pytest.approx(np.corrcoef(y, p)[0, 1])
    with pytest.raises(ValueError, match="no sample to score"):
        score_trials(task, said, values, np.zeros((2, 3), bool))


@pytest.mark.parametrize("size", [0, 1, 100_000_001, None])
def test_headers_beyond_the_format_s_limits(tmp_path: Path, size: int | None) -> None:
    start = b"short" if size is None else struct.pack("<Q", size)
    (tmp_path / "x").write_bytes(start + b"{}" * (size is not None))
    with pytest.raises(ValueError, match="no safetensors file"):
        Entry("x", tmp_path).metadata()
    (tmp_path / "x").write_bytes(struct.pack("<Q", 2) + b"{}")
    assert Entry("x", tmp_path).metadata() == {}
    (tmp_path / "x").write_bytes(struct.pack("<Q", 28) + b'{"__metadata__":{"a":"b"}}  more')
    assert Entry("x", tmp_path).metadata() == {"a": "b"}


def test_recordings_by_the_beginning_of_their_ids(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds none of"):
        BenchmarkData(tmp_path)
    (tmp_path / "all_units").mkdir()
    data = BenchmarkData(tmp_path)
    with pytest.raises(UserError, match="holds no recording for evaluation"):
        data.choose(None)
    data.__dict__["recordings"] = ["ab1", "ab2", "c"]
    assert data.choose(None) == data.choose([]) == ["ab1", "ab2", "c"]
    assert data.choose(["c", "ab2", "c"]) == ["ab2", "c"]
    with pytest.raises(UserError, match="--session ab: 2 recordings begin so"):
        data.choose(["ab"])
    with pytest.raises(UserError, match="--session d: no such recording"):
        data.choose(["d"])


def test_a_unit_goes_on_as_before_the_bins_that_are_asked_for() -> None:
    counts = np.zeros((2, 50, 2), np.uint8)
    counts[0, -5:] = 9  # which nobody knows
    counts[0, 40:45, 1] = 2
    counts[1, 34, 0], counts[1, 35, 0] = 7, 3  # ten bins begin at 35
    found = activity_baselines.TrailingMean(np.array([0.5, 2.0]), 10, 4.0).log_rates(counts)
    assert found.shape == (2, 5, 2)
    expected = np.array([[0 + 2, 10 + 8], [3 + 2, 0 + 8]]) / 14
    np.testing.assert_allclose(found, np.log(expected)[:, None].repeat(5, 1))


def test_a_unit_follows_the_others_within_limits() -> None:
    counts = np.zeros((1, 50, 3), np.uint8)
    counts[0, :, 0], counts[0, 20:, 2], counts[0, :, 1] = 1, 8, 200  # the unit 1 is not visible
    weight, offset = np.array([0.5, -4.0], np.float32), np.array([0.25, 0.0], np.float32)
    model = activity_baselines.PopulationCoupling(np.array([0, 2]), 1e-3, 3.0, 2.0, weight, offset)
    first, last = model.log_rates(counts)[0, [0, -1]]
    np.testing.assert_allclose(first, [-0.25, 3.0])  # of 1 spike: -1, and 4 is too much
    np.testing.assert_allclose(last, [1.75, -12.0])
    counts[0, 20:, 2] = 20
    np.testing.assert_allclose(model.log_rates(counts)[0, -1], [3.0, -14.0])


def test_grids_and_steps_stay_what_they_were() -> None:
    """With others, predictions do not compare with those of before."""
    from ibl_mtm.benchmark import check, windows

    assert decoded.INVERSE_PENALTIES == (1e-3, 1e-2, 1e-1, 1.0)
    assert decoded.PENALTIES == (1.0, 10.0, 100.0, 1e3, 1e4)
    assert decoded.LAGS.tolist() == [-8, -6, -4, -2, 0, 2, 4, 6, 8]
    assert (check.LEAST_SEEDS, windows.VAL_STRIDE) == (3, 3)
