"""What baselines are made from, against plain loops."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from synthetic import make_session

from ibl_mtm.evaluation.baselines import registry, regression
from ibl_mtm.evaluation.baselines.registry import BASELINES, BaselinePredictor
from ibl_mtm.evaluation.baselines.session_data import BaselineData
from ibl_mtm.model.poisson_regression import _Pair, _times_curvature

T = 20  # the last two are forward


def data_of(seed=0, n=(9, 4, 5)):
    """Unequal splits, three regions of which one has no part, and two units that are rare."""
    rng = np.random.default_rng(seed)
    counts = {
        split: rng.poisson([0.2, 1.0, 3.0, 1.5, 0.0], (rows, T, 5)).astype(np.float32)
        for split, rows in zip(("train", "val", "test"), n, strict=True)
    }
    counts["train"][:, 10:, 0] = 0  # far from the bins that forward prediction asks for
    counts["train"][:, :3, 0] += 2
    counts["fit"] = np.concatenate([counts["train"], counts["val"]])
    condition = {split: np.arange(len(rows)) % 3 for split, rows in counts.items()}
    return BaselineData(counts, condition, np.array(["A", "B", "", "B", "A"]))


@pytest.mark.parametrize("task", ["co_smoothing", "forward_prediction"])
@pytest.mark.parametrize("width", [0.8, 3.0])
def test_features_are_smoothed_counts_in_units_of_the_training_trials(task, width):
    data = data_of()
    forward = task == "forward_prediction"
    asked = range(18, 20) if forward else range(T)

    def smoothed(counts):
        out = np.zeros((len(counts), len(asked), 5))
        for row, at in enumerate(asked):
            weight = np.zeros(T)
            for other in range(18 if forward else T):
                weight[other] = np.exp(-(((at - other) / width) ** 2) / 2)
            if weight.sum() == 0:  # too far to tell: the nearest
                weight[17] = 1
            out[:, row] = np.einsum("btn,t->bn", counts, weight / weight.sum())
        return out

    train = data.counts["train"].astype(float)
    spread = smoothed(train).std((0, 1))
    spread = np.maximum(spread, 0.1 * train.std((0, 1)))
    expected = (smoothed(data.counts["val"]) - train.mean((0, 1))) / np.where(spread, spread, 1)
    found = data.to_predict("val", width, task)
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)
    assert (found[..., 4] == 0).all()  # a silent unit


@pytest.mark.parametrize("n_components", [1, 3, 5])
def test_components_leave_the_noise_that_probabilistic_pca_has(monkeypatch, n_components):
    """Against scikit-learn's; at least a thousandth, where nothing is left out."""
    data, noises = data_of(), []
    infer = regression.scores_from

    def scores_from(loading, noise, allowed):
        noises.append(noise)
        assert loading.shape == (5, n_components)
        return infer(loading, noise, allowed)

    monkeypatch.setattr(regression, "scores_from", scores_from)
    found = regression.pca_poisson(data, "co_smoothing", 3.0, n_components)
    assert found.shape == data.counts["test"].shape
    x, _ = data.to_fit("fit", 3.0, "co_smoothing")
    expected = max(PCA(n_components).fit(x).noise_variance_, 1e-3)
    np.testing.assert_allclose(noises, expected, rtol=1e-4)


def test_forward_prediction_is_fitted_to_the_second_half_too():
    data = data_of()
    x, y = data.to_fit("train", 2.0, "forward_prediction")
    parts = [slice(end - 2, end) for end in (20, 18, 16, 14, 12)]
    expected = np.concatenate([data.counts["train"][:, part] for part in parts])
    np.testing.assert_array_equal(y, expected.reshape(-1, 5))
    first = data.to_predict("train", 2.0, "forward_prediction").reshape(-1, 5)
    np.testing.assert_array_equal(x[: len(first)], first)
    assert x.shape == y.shape
    x, y = data.to_fit("val", 2.0, "co_smoothing")
    np.testing.assert_array_equal(y, data.counts["val"].reshape(-1, 5))


def test_scores_are_of_the_units_that_are_asked_for():
    data = data_of()
    counts = data.counts["val"]
    assert data.targets("inter_region").tolist() == [0, 1, 3, 4]
    rates = counts.mean((0, 1)) + np.zeros_like(counts) + 1e-3
    log = np.log(rates) - np.log(counts.mean((0, 1)))[None, None].clip(-50)
    gains = [
        ((counts * log).sum((0, 1)) - (rates - counts.mean((0, 1))).sum((0, 1)))[unit]
        / counts[..., unit].sum()
        / np.log(2)
        for unit in (0, 1, 3)
    ]
    assert data.score(rates, "val", "inter_region") == pytest.approx(np.mean(gains), abs=1e-5)
    silent = data_of()
    silent.counts["val"][..., [0, 1, 3, 4]] = 0
    assert silent.score(rates, "val", "inter_region") == -np.inf
    assert silent.score(rates, "val", "co_smoothing") > -np.inf


def test_a_session_is_read_by_its_splits():
    ds = make_session(n_units=6, n_trials=14, n_bins=T, seed=3)
    split = np.array(["train", "val", "test", "train", "none", "train", "test"] * 2)
    data = BaselineData.of(ds, split, np.full(6, "A"))
    for name in ("train", "val", "test"):
        np.testing.assert_array_equal(data.counts[name], ds.spikes.values[split == name])
        np.testing.assert_array_equal(data.start[name], ds.window_start.values[split == name])
        assert len(data.behaviour[name].traces) == (split == name).sum()
    np.testing.assert_array_equal(data.counts["fit"], ds.spikes.values[split != "test"])
    labels = np.stack([ds.choice.values, ds.probability_left.values], 1)
    _, expected = np.unique(labels, axis=0, return_inverse=True)
    fit = data.condition["fit"]
    same = fit[:, None] == fit
    its = expected.ravel()[split != "test"]
    np.testing.assert_array_equal(same, its[:, None] == its)
    without = BaselineData.of(ds.drop_vars("choice"), split, np.full(6, "A"))
    assert set(without.condition["fit"]) == {0}


def test_responses_are_means_of_conditions_drawn_to_the_mean_of_all():
    data = data_of()
    found = registry._psth(data, "forward_prediction", 1.5, 2.0)
    fit, time = data.counts["fit"].astype(float), np.arange(T)
    kernel = np.exp(-(((time[:, None] - time) / 1.5) ** 2) / 2)
    smooth = np.einsum("st,btn->bsn", kernel / kernel.sum(1, keepdims=True), fit)
    floor = (fit.sum((0, 1)) + 0.5) / (len(fit) * T)
    overall = (smooth.sum(0) + 0.1 * floor) / (len(fit) + 0.1)
    for row, condition in enumerate(data.condition["test"]):
        own = smooth[data.condition["fit"] == condition]
        expected = (own.sum(0) + 2 * overall) / (len(own) + 2)
        np.testing.assert_allclose(found[row], expected[18:], rtol=1e-5)


def test_the_best_on_the_validation_trials_is_chosen(monkeypatch):
    data = data_of()
    asked = []

    def score(self, rates, split, task):
        asked.append((split, task))
        return float(rates)

    def psth(data, task, width, prior, known, split):
        assert (known, split) == ("train", "val")
        return -((width - 3) ** 2) - (prior - 4) ** 2

    monkeypatch.setattr(registry.regression, "WIDTHS", (1.0, 3.0, 9.0))
    monkeypatch.setattr(registry, "PRIOR_TRIALS", (1.0, 4.0, 16.0))
    monkeypatch.setattr(registry, "_psth", psth)
    monkeypatch.setattr(BaselineData, "score", score)
    assert registry._choose_psth(data, "co_smoothing") == (3.0, 4.0)
    assert asked == [("val", "co_smoothing")] * 9


@pytest.mark.parametrize(
    ("name", "n_units", "what", "reason"),
    [
        ("unit_mean", 1, "co_smoothing", "a single unit"),
        ("unit_mean", 1, "forward_prediction", None),
        ("unit_mean", 2, "co_smoothing", None),
        ("unit_mean", 2, "region_pairs", "is not fitted to pairs of regions"),
        ("reduced_rank", 2, "region_pairs", None),
        ("autoregressive", 2, "co_smoothing", "does not predict this"),
        ("encoding_regression", 2, "encoding", None),
    ],
)
def test_what_a_baseline_cannot_predict(name, n_units, what, reason):
    ds = make_session(n_units=n_units, n_trials=12, n_bins=T, seed=3)
    split = np.array(["train", "val", "test"] * 4)
    predictor = BaselinePredictor(name, ds, split, np.array(["A", "B"])[:n_units])
    found = predictor.cannot(what)
    assert found is None if reason is None else reason in found
    assert predictor.prompt is None
    assert predictor.features() == predictor.answers() == {}


@pytest.mark.parametrize(("region", "pairs"), [("AAAA", 0), ("AABB", 2), ("A BB", 2)])
def test_pairs_need_two_regions(region, pairs):
    ds = make_session(n_units=4, n_trials=12, n_bins=T, seed=3)
    split = np.array(["train", "val", "test"] * 4)
    names = np.array([name.strip() for name in region])
    predictor = BaselinePredictor("unit_mean", ds, split, names)
    found = [(held.source, held.region) for held, _ in predictor.region_pairs()]
    assert found == [("A", "B"), ("B", "A")][:pairs]


def test_without_any_behaviour_there_is_no_encoding():
    ds = make_session(n_units=2, n_trials=12, n_bins=T, seed=3)
    split = np.array(["train", "val", "test"] * 4)
    data = BaselineData.of(ds, split, np.full(2, "A"))
    assert data.has_behaviour
    left_out = data.without(data.modalities)
    assert left_out.modalities == []
    assert not left_out.has_behaviour
    assert left_out.kept is not data.kept
    some = data.without(data.modalities[:1])
    assert some.modalities == data.modalities[1:]
    assert set(BASELINES) >= {"encoding_regression", "unit_mean"}


def test_two_loops_are_the_inverse_of_what_steps_told_of_the_curvature():
    """After as many steps as dimensions, on a quadratic, exactly; a step without change is none."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(3, 3))
    curvature = torch.from_numpy(root @ root.T + np.eye(3))
    steps = [torch.linalg.eigh(curvature)[1][:, [k]] for k in range(3)]
    pairs = [_Pair.of(step, curvature @ step) for step in steps]
    slope = torch.from_numpy(rng.normal(size=(3, 1)))
    expected = torch.linalg.solve(curvature, slope)
    torch.testing.assert_close(_times_curvature(slope, pairs), expected)
    still = _Pair.of(torch.zeros(3, 2).double(), torch.ones(3, 2).double())
    assert still.inverse.tolist() == [0, 0]
    assert torch.equal(_times_curvature(slope.expand(3, 2), [still]), slope.expand(3, 2))
    two = _Pair.of(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 4.0]]))
    assert two.inverse.tolist() == [2.0, 0.125]
    assert two.only(torch.tensor([1])).inverse.tolist() == [0.125]
