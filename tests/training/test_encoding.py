"""Rows that read spikes out of behaviour: fitted to what is shown, to no test trial, last."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.linear_model import PoissonRegressor
from synthetic import make_regions, make_session
from training_runs import TINY, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.evaluation.activity.predict import population_of, predict_held_out
from ibl_mtm.evaluation.activity.predict_given import predict_given
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.training import encoding
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.data.describe import describe_sessions
from ibl_mtm.training.encoding import PENALTIES, USUAL_PENALTY, fit_encoding
from ibl_mtm.training.run import train

NAMES = ["wheel_speed", "lick_rate", "choice"]
SCHEMES = {"neuron": 1.0, "encoding": 1.0, "decoding": 1.0}


def settings_of(refit_encoding=True, part=0.5, **changes):
    values = {
        "model": TINY["model"] | {"modalities": NAMES, "refit_encoding": refit_encoding},
        "masks": TINY["masks"] | {"schemes": SCHEMES, "ratios": {"encoding": part}},
        "steps": 6,
        "validate_every": 3,
    }
    return tiny_settings(**values | changes)


def make(seed, n_units, n_trials):
    """A session whose first units fire with the wheel, and some trials without a choice."""
    ds = make_session(n_units=n_units, n_trials=n_trials, n_bins=20, seed=seed)
    ds["choice"][::9] = 0
    speed = np.abs(ds.wheel_velocity.values)
    rate = 0.3 * np.exp(0.7 * (speed - speed.mean()) / speed.std())
    ds.spikes[:, :, :4] = np.random.default_rng(seed).poisson(
        rate.clip(max=4)[:, :, None].repeat(4, 2)
    )
    return ds


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Two sessions, unequal, and one without any behaviour."""
    root = tmp_path_factory.mktemp("encoding") / "cache.zarr"
    create_cache(root)
    for seed, n_units, n_trials in ((1, 8, 40), (2, 11, 31), (3, 6, 30)):
        ds = make(seed, n_units, n_trials)
        if seed == 3:
            ds = ds.drop_vars(["wheel_velocity", "lick_count"])
            ds["choice"][:] = -128
        write_session(root, ds, make_regions())
    return open_cache(root)


@pytest.fixture(scope="module")
def run(cache, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "refitted"
    train(settings_of(), cache, run, progress=False)
    return run


def unfitted(run):
    """The same, as if nothing had been fitted last."""
    model = load_model(run)
    for name in (*model.ENCODING_UNIT_TABLES, "encoding_is_fitted"):
        getattr(model, name).zero_()
    return model


def sessions_of(cache, settings):
    return describe_sessions(cache, settings.data, {}, settings.model.modalities)


def with_behaviour(cache, there=True):
    """In the order of a model's sessions."""
    return [eid for eid, ds in cache.items() if ("wheel_velocity" in ds) == there]


def seen(model, ds, split):
    """Outputs of the transformer and counts of a split's trials, all behaviour shown."""
    part = ds.isel(trial=np.flatnonzero(np.isin(ds.split.values.astype(str), split))).load()
    population = population_of(model, part)
    hidden = torch.ones(1, 1, 1, dtype=torch.bool)
    trials = torch.arange(part.sizes["trial"])
    with torch.no_grad():
        h = model.encode([population.group(hidden, trials, "encoding")])
    return h.numpy(), part.spikes.values


def test_rows_are_those_of_a_poisson_regression(run, cache, monkeypatch):
    """Shown whole in both passes, so that each trial stands twice."""
    monkeypatch.setattr(encoding, "PENALTIES", (1.0,))
    model, settings = unfitted(run), settings_of(part=0.0)
    fit_encoding(model, sessions_of(cache, settings), settings)
    for eid in with_behaviour(cache):
        ds = cache[eid]
        h, counts = seen(model, ds, ["train", "val"])
        x, y = h.reshape(-1, h.shape[2]), counts.reshape(-1, counts.shape[2])
        z = (x - x.mean(0)) / x.std(0)
        rows = model.scope.rows_of(ds.unit.values.astype(str))
        for unit in (0, 5):
            own = PoissonRegressor(alpha=y[:, unit].mean(), tol=1e-8, max_iter=1000)
            own.fit(z, y[:, unit])
            expected = own.predict(z)
            weights = model.encoding_read_out[rows[unit]].numpy()
            found = np.exp(x @ weights + float(model.encoding_read_out_bias[rows[unit]]))
            np.testing.assert_allclose(found, expected, rtol=5e-3)


def test_the_penalty_is_the_best_on_validation_trials(run, cache, monkeypatch):
    chosen = []
    choose = encoding._choose_penalty
    monkeypatch.setattr(
        encoding, "_choose_penalty", lambda *parts: chosen.append(choose(*parts)) or chosen[-1]
    )
    settings = settings_of(part=0.0)
    fit_encoding(unfitted(run), sessions_of(cache, settings), settings)
    best = list(chosen)  # of sessions that have behaviour
    for eid, penalty in zip(with_behaviour(cache), best, strict=True):
        scores = []
        for one in PENALTIES:
            monkeypatch.setattr(encoding, "PENALTIES", (one,))  # alone
            model = unfitted(run)
            fit_encoding(model, sessions_of(cache, settings), settings, refit=False)
            h, counts = seen(model, cache[eid], ["val"])
            rows = model.scope.rows_of(cache[eid].unit.values.astype(str))
            log_rate = h @ model.encoding_read_out[rows].numpy().T
            log_rate += model.encoding_read_out_bias[rows].numpy()
            scores.append(np.nanmean(bits_per_spike(np.exp(log_rate), counts)))
        assert penalty == PENALTIES[int(np.argmax(scores))]


def test_outputs_are_scaled_but_for_one_that_never_changes():
    x = torch.tensor([[[1.0, 3.0, -0.5], [1.5, 3.0, 0.5]], [[2.0, 3.0, 1.5], [2.5, 3.0, 2.5]]])
    mean, spread = encoding._scaled(x)
    torch.testing.assert_close(mean, torch.tensor([1.75, 3.0, 1.0]))
    torch.testing.assert_close(spread, torch.tensor([0.3125**0.5, 1.0, 1.25**0.5]))


def test_rows_for_outputs_as_they_are():
    """Those of scaled ones by hand: (x - 2) / 4 times 3, and one."""
    fit = SimpleNamespace(
        weights=np.array([[3.0, 1.0]], np.float32), intercept=np.array([1.0, 0.0], np.float32)
    )
    weights, bias = encoding._unscaled(fit, torch.tensor([2.0]), torch.tensor([4.0]))
    torch.testing.assert_close(weights, torch.tensor([[0.75], [0.25]]))
    torch.testing.assert_close(bias, torch.tensor([-0.5, -0.5]))


def test_a_model_is_read_out_as_it_will_be_used(run):
    model = load_model(run).train()
    fit_encoding(model, [], settings_of(refit_encoding=False))
    assert not model.training


@pytest.mark.parametrize(
    ("far", "n_tried", "best"),
    [
        ([8, 7, 6, 5, 4, 3, 2, 1], 8, 7),
        ([8, 1, 2, 3, 0, 0, 0, 0], 4, 1),  # two in a row are worse than one before
        ([4, 5, 3, 6, 2, 7, 1, 8], 8, 6),  # one alone is not
        ([1, 2, 3, 0, 0, 0, 0, 0], 3, 0),
        ([2, 2, 2, 2, 2, 2, 2, 2], 8, 0),  # nor as good
    ],
)
def test_the_search_ends_once_two_penalties_in_a_row_are_worse(monkeypatch, far, n_tried, best):
    """Rates are `far` from the one spike in each bin that there is."""
    tried = []

    def fit(penalty, start):
        assert start == (tried[-1] if tried else None)
        tried.append(penalty)
        return penalty

    def rows(penalty, mean, spread):
        return torch.zeros(3, 2), torch.full((3,), far[PENALTIES.index(penalty)] / 4)

    monkeypatch.setattr(encoding, "_regression", lambda x, y: SimpleNamespace(fit=fit))
    monkeypatch.setattr(encoding, "_unscaled", rows)
    parts = torch.randn(4, 5, 2), torch.ones(4, 5, 3)
    parts[1][:2, :, 2] = 0  # a unit that is silent where all is shown
    assert encoding._choose_penalty(parts, parts) == PENALTIES[best]
    assert tried == list(PENALTIES[:n_tried])


def test_without_validation_trials_the_usual_penalty_is_taken(run, cache, monkeypatch):
    monkeypatch.setattr(encoding, "_choose_penalty", lambda *parts: pytest.fail("none to ask"))
    asked = []
    fit = encoding._fit
    monkeypatch.setattr(encoding, "_fit", lambda *a: asked.append((len(a[0]), a[2])) or fit(*a))
    settings = settings_of()
    sessions = [
        replace(session, split=np.where(session.split == "val", "test", session.split))
        for session in sessions_of(cache, settings)
    ]
    fit_encoding(unfitted(run), sessions, settings)
    own = with_behaviour(cache)
    n_train = [len(session.trials_in("train")) for session in sessions if session.eid in own]
    assert asked == [(2 * n, USUAL_PENALTY) for n in n_train]


def test_test_trials_have_no_part_in_it(cache, run, tmp_path):
    root = tmp_path / "other.zarr"
    create_cache(root)
    for ds in cache.values():
        ds = ds.load().copy(deep=True)
        test = ds.split.values.astype(str) == "test"
        ds.spikes[test] = 7
        for name in {"wheel_velocity", "choice"} & set(ds.variables):
            ds[name][test] = 1
        write_session(root, ds, make_regions())
    settings, found = settings_of(), []
    for one in (cache, open_cache(root)):
        model = unfitted(run)
        fit_encoding(model, sessions_of(one, settings), settings)
        found.append([getattr(model, name) for name in model.ENCODING_UNIT_TABLES])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_parts_of_behaviour_are_fitted_to_as_well(run, cache):
    found = []
    for part in (0.0, 1.0):
        settings, model = settings_of(part=part), unfitted(run)
        fit_encoding(model, sessions_of(cache, settings), settings)
        found.append(model.encoding_read_out)
    assert not torch.allclose(*found, atol=1e-3)


def test_only_spikes_from_behaviour_alone_are_read_out_by_them(run, cache):
    fitted, before = load_model(run), unfitted(run)
    assert fitted.encoding_is_fitted
    assert not before.encoding_is_fitted
    eid = with_behaviour(cache)[0]
    ds = cache[eid].load()
    rates = {}
    for name, model in (("fitted", fitted), ("before", before)):
        for task in ("encoding", "co_smoothing"):
            items = predict_held_out(population_of(model, ds), task)
            rates[name, task] = np.concatenate([found for _, found in items], 2)
    np.testing.assert_array_equal(*(rates[n, "co_smoothing"] for n in ("fitted", "before")))
    h, _ = seen(fitted, ds, ["train", "val", "test"])
    rows = fitted.scope.rows_of(ds.unit.values.astype(str))
    for name, weights, bias in (
        ("fitted", fitted.encoding_read_out, fitted.encoding_read_out_bias),
        ("before", before.read_out, before.read_out_bias),
    ):
        expected = np.exp(h @ weights[rows].detach().numpy().T + bias[rows].detach().numpy())
        np.testing.assert_allclose(rates[name, "encoding"], expected, rtol=1e-4)
    # So does whoever asks for any of any.
    asked = predict_given(fitted, ds, given=NAMES, targets=["spikes"]).spikes
    np.testing.assert_allclose(asked, rates["fitted", "encoding"], rtol=1e-4)


def test_a_session_without_behaviour_keeps_the_rows_that_it_has(run, cache):
    model, (eid,) = load_model(run), with_behaviour(cache, there=False)
    rows = model.scope.rows_of(cache[eid].unit.values.astype(str))
    assert torch.equal(model.encoding_read_out[rows], model.read_out[rows])
    assert torch.equal(model.encoding_read_out_bias[rows], model.read_out_bias[rows])


def test_training_is_the_same_without_it(run, cache, tmp_path):
    train(settings_of(refit_encoding=False), cache, tmp_path / "plain", progress=False)
    plain, fitted = (load_model(path).state_dict() for path in (tmp_path / "plain", run))
    more = set(fitted) - set(plain)
    assert more == {"encoding_read_out", "encoding_read_out_bias", "encoding_is_fitted"}
    for name, tensor in plain.items():
        assert torch.equal(tensor, fitted[name]), name


def test_a_run_that_starts_from_another_fits_rows_of_its_own(run, cache, tmp_path):
    one = cache.where(f"eid == '{with_behaviour(cache)[1]}'")
    tuned = tmp_path / "tuned"
    train(settings_of(steps=2, validate_every=1), one, tuned, init=run, progress=False)
    model, source = load_model(tuned), load_model(run)
    rows = source.scope.rows_of(np.array(model.scope.units))
    assert model.encoding_is_fitted
    assert not torch.allclose(model.encoding_read_out, source.encoding_read_out[rows], rtol=1e-3)
    assert not torch.equal(model.encoding_read_out, model.read_out)
