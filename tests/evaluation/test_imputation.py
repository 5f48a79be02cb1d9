"""Units of another session are imputed: what is read out, what is seen, and how it is scored."""

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from synthetic import make_session
from training_runs import TINY, tiny_settings

import ibl_mtm
from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.impute import impute_each
from ibl_mtm.evaluation.baselines.registry import BaselinePredictor
from ibl_mtm.evaluation.metrics import bits_per_spike
from ibl_mtm.model.dynamics.system import LinearDynamics
from ibl_mtm.sessions.trial_format import trial_format
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.checkpoint.build import build_model

REGION = "CA1"


@pytest.fixture(scope="module")
def here():
    """Two units in each of five regions."""
    return make_session(n_units=10, n_trials=50, n_bins=12, seed=1)


@pytest.fixture(scope="module")
def there():
    """Three units in each of them, more trials."""
    return make_session(n_units=15, n_trials=60, n_bins=12, seed=2)


def make_model(*sessions, dynamics=0):
    """Weights at random, so that everything depends on everything that it sees."""
    settings = tiny_settings(model=TINY["model"] | {"dynamics": dynamics, "prompt_region": True})
    described = [describe_session(ds, settings.data) for ds in sessions]
    torch.manual_seed(3)
    model = build_model(settings, described, trial_format(sessions[0])).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(0.3 * torch.randn_like(parameter))
        model.read_out_bias.sub_(1)
    return model


@pytest.fixture(scope="module")
def model(here, there):
    return make_model(here, there)


def of(ds, region=REGION):
    return np.flatnonzero(ds.beryl.values == region)


def with_dynamics(here, there):
    model = make_model(here, there, dynamics=2)
    rng = np.random.default_rng(0)

    def of_size(*shape):
        return torch.from_numpy(rng.normal(0, 0.3, shape)).float()

    eye = torch.eye(2)
    system = LinearDynamics(of_size(10, 2), of_size(10), 0.9 * eye, 0.1 * eye, eye, of_size(12, 2))
    model.start_dynamics(model.scope.rows_of(here.unit.values), 0, system)
    model.dynamics_share.fill_(0.5)
    return model


def test_a_region_that_was_recorded_is_predicted_from_the_others(here, there, model):
    # Where a dynamical system is looked for depends on what else is asked, to its tolerance.
    for each, tolerance in ((model, 1e-6), (with_dynamics(here, there), 1e-3)):
        own = ibl_mtm.impute(each, here, like=here, regions=REGION)
        expected = ibl_mtm.predict(each, here, task="inter_region").isel(unit=of(here))
        np.testing.assert_allclose(own, expected, rtol=tolerance)
        np.testing.assert_array_equal(own.unit, expected.unit)
    with_and_without = ibl_mtm.impute(model, here, like=here, regions=REGION)
    assert not np.allclose(own, with_and_without, rtol=0.01)  # dynamics took part


def test_units_of_another_session_with_the_same_rows_do_the_same(here, there):
    model = make_model(here, there)
    rows = [model.scope.rows_of(ds.unit.values[of(ds, "DG")]) for ds in (here, there)]
    with torch.no_grad():
        model.read_out[rows[1][:2]] = model.read_out[rows[0]]
        model.read_out_bias[rows[1][:2]] = model.read_out_bias[rows[0]]
    other = ibl_mtm.impute(model, here, like=there, regions=["DG"])
    own = ibl_mtm.predict(model, here, task="inter_region").isel(unit=of(here, "DG"))
    np.testing.assert_allclose(other[:, :, :2], own, rtol=1e-5)
    assert not np.allclose(other[:, :, 2], own[:, :, 0])


def test_what_it_is_of(here, there, model):
    rates = ibl_mtm.impute(model, here.isel(trial=[3, 9]), like=there, regions=["DG", REGION])
    units = np.sort(np.r_[of(there), of(there, "DG")])
    assert rates.shape == (2, 12, 6)
    np.testing.assert_array_equal(rates.unit, there.unit[units])
    np.testing.assert_array_equal(rates.beryl, there.beryl[units])
    np.testing.assert_array_equal(rates.trial, here.trial[[3, 9]])
    assert (rates.attrs["eid"], rates.attrs["like"]) == (here.attrs["eid"], there.attrs["eid"])
    assert rates.notnull().all()
    # Each region by itself, whatever else is asked for.
    alone = ibl_mtm.impute(model, here, like=there, regions=REGION).isel(trial=[3, 9])
    both = rates.isel(unit=np.flatnonzero(rates.beryl == REGION))
    np.testing.assert_allclose(both, alone, rtol=1e-5)


def test_it_sees_this_session_without_the_region_and_nothing_of_the_other(here, there, model):
    rates = ibl_mtm.impute(model, here, like=there, regions=REGION)
    hidden, other = here.copy(deep=True), there.copy(deep=True)
    hidden.spikes[:, :, of(here)] = 9
    other.spikes[:] = 9
    same = ibl_mtm.impute(model, hidden, like=other, regions=REGION)
    np.testing.assert_array_equal(same, rates)
    shown = here.copy(deep=True)
    shown.spikes[4, :, of(here, "DG")] = 9
    changed = ibl_mtm.impute(model, shown, like=there, regions=REGION) != rates
    assert np.flatnonzero(changed.any(("time", "unit"))).tolist() == [4]


@pytest.mark.parametrize(
    ("regions", "message"),
    [
        ([REGION, "CA3"], "has no units of 'CA3' that the model knows; it has CA1, DG,"),
        (["CA3"], "has no units of 'CA3' that the model knows; it has CA1, DG,"),
        ([], "no region is asked for"),
    ],
)
def test_regions_that_are_not_there_are_refused(regions, message, here, there, model):
    with pytest.raises(UserError, match=message):
        ibl_mtm.impute(model, here, like=there, regions=regions)


def test_what_cannot_be_imputed_is_refused(here, there, model):
    alone = here.isel(unit=of(here))
    with pytest.raises(UserError, match="has units of CA1 alone: nothing is left"):
        ibl_mtm.impute(model, alone, like=there, regions=REGION)
    with pytest.raises(UserError, match=f"not trained on session {there.attrs['eid']}"):
        ibl_mtm.impute(make_model(here), here, like=there, regions=REGION)


def test_scores_by_hand(here, there, model):
    table = ibl_mtm.score_imputation(model, here, like=there, regions=[REGION])
    test = (here.split == "test").values
    observed = here.spikes.values[:, :, of(here)].sum(2, dtype=int)
    for column, like in (("imputed", there), ("own_units", here)):
        total = ibl_mtm.impute(model, here, like=like, regions=REGION).values.sum(2)
        total *= observed[~test].sum() / total[~test].sum()
        bits = bits_per_spike(total[test][..., None], observed[test][..., None])
        assert table.loc[REGION, column] == pytest.approx(bits.item(), rel=1e-4)
    assert table.loc[REGION, ["n_units", "n_units_like"]].tolist() == [2, 3]
    assert table.loc[REGION, "n_spikes"] == observed[test].sum()
    alone = ibl_mtm.score_imputation(model, here, like=[there], regions=[REGION])
    pd.testing.assert_frame_equal(alone, table)
    everywhere = ibl_mtm.score_imputation(model, here, like=there)
    assert everywhere.index.tolist() == sorted(set(here.beryl.values.tolist()))


def test_of_several_sessions_the_mean_of_logs_is_taken(here, there, model):
    third = make_session(n_units=10, n_trials=30, n_bins=12, seed=3)
    without = third.isel(unit=np.flatnonzero(third.beryl != "DG"))
    model = make_model(here, there, without)
    table = ibl_mtm.score_imputation(model, here, like=[there, without], regions=[REGION, "DG"])
    test = (here.split == "test").values
    observed = here.spikes.values[:, :, of(here)].sum(2, dtype=int)
    totals = [
        ibl_mtm.impute(model, here, like=like, regions=REGION).values.sum(2, dtype=float)
        for like in (there, without)
    ]
    total = np.sqrt(totals[0] * totals[1])
    total *= observed[~test].sum() / total[~test].sum()
    bits = bits_per_spike(total[test][..., None], observed[test][..., None])
    assert table.loc[REGION, "imputed"] == pytest.approx(bits.item(), rel=1e-5)
    assert table["n_units_like"].tolist() == [5, 3]
    one = ibl_mtm.score_imputation(model, here, like=there, regions=["DG"])
    assert table.loc["DG", "imputed"] == one.loc["DG", "imputed"]


def test_trials_are_read_once_however_many_sessions_answer(here, there, monkeypatch):
    third = make_session(n_units=20, n_trials=30, n_bins=12, seed=3)
    model = make_model(here, there, third)
    alone = [impute_each(model, here, [ds], REGION)[0] for ds in (there, third)]
    own = impute_each(model, here, [here], REGION)[0]
    asked = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda groups: asked.append(groups) or encode(groups))
    found = impute_each(model, here, [third, there], REGION)
    assert len(asked) == 2  # 50 trials, 32 at a time
    assert [rates.shape for rates in found] == [(50, 12, 4), (50, 12, 3)]
    for rates, expected in zip(found, alone[::-1], strict=True):
        np.testing.assert_allclose(rates, expected, rtol=1e-5)
    monkeypatch.undo()
    # The session itself may be among them: it is asked as between regions.
    among = impute_each(model, here, [there, here, third], REGION)
    for rates, expected in zip(among, (alone[0], own, alone[1]), strict=True):
        np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_by_default_a_region_need_not_be_in_every_other_session(here, there):
    without = there.isel(unit=np.flatnonzero(there.beryl != "DG"))
    third = make_session(n_units=10, n_trials=30, n_bins=12, seed=3)
    third = third.isel(unit=np.flatnonzero((third.beryl == "DG") | (third.beryl == "CA1")))
    model = make_model(here, without, third)
    table = ibl_mtm.score_imputation(model, here, like=[without, third])
    assert table.index.tolist() == sorted(set(here.beryl.values.tolist()))
    assert table.loc[["CA1", "DG", "LP"], "n_units_like"].tolist() == [5, 2, 3]
    alone = ibl_mtm.score_imputation(model, here, like=third)
    assert alone.index.tolist() == ["CA1", "DG"]
    assert alone.loc["DG", "imputed"] == table.loc["DG", "imputed"]


def test_the_psth_that_it_stands_beside_is_the_baseline(here, there, model):
    one = here.isel(unit=[*of(here)[:1], *np.flatnonzero(here.beryl != REGION)])
    table = ibl_mtm.score_imputation(model, one, like=there, regions=[REGION])
    split = one.split.values.astype(str)
    predictor = BaselinePredictor("psth", one.isel(unit=[0]), split, np.array([""]))
    held = predictor.baseline.predict(
        predictor.data, "co_smoothing", *predictor.baseline.choose(predictor.data, "co_smoothing")
    )
    bits = bits_per_spike(held, one.spikes.values[split == "test", :, :1])
    assert table.loc[REGION, "psth"] == pytest.approx(bits.item())


def test_units_that_the_model_never_saw_are_what_it_is_compared_with(here, there):
    unknown = here.isel(unit=np.flatnonzero(here.beryl != REGION))
    model = make_model(unknown, there)
    table = ibl_mtm.score_imputation(model, here, like=there)
    assert np.isnan(table.loc[REGION, "own_units"])
    assert np.isfinite(table.loc[REGION, ["imputed", "psth"]].astype(float)).all()
    assert np.isfinite(table["own_units"].drop(REGION)).all()


def test_what_cannot_be_scored_is_refused(here, there, model):
    with pytest.raises(UserError, match="needs test trials, and others"):
        ibl_mtm.score_imputation(model, here, like=there, split=np.full(50, "train"))
    with pytest.raises(UserError, match="needs test trials, and others"):
        ibl_mtm.score_imputation(model, here, like=there, split=np.full(50, "test"))
    with pytest.raises(UserError, match="has no units of 'CA3' to compare with"):
        ibl_mtm.score_imputation(model, here, like=there, regions=["CA3"])
    some: xr.Dataset = there.isel(unit=of(there, "DG")[:1])
    with pytest.raises(UserError, match=f"and {some.attrs['eid']} share no region of 2 units"):
        ibl_mtm.score_imputation(model, here, like=some)
    with pytest.raises(UserError, match="and no other one share no region of 2 units"):
        ibl_mtm.score_imputation(model, here, like=[])
    with pytest.raises(UserError, match=f"{some.attrs['eid']} has no units of 'CA1'"):
        ibl_mtm.score_imputation(model, here, like=[some, some], regions=["CA1"])
