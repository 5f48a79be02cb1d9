"""Embeddings: what the read-out sees, in the session's own coordinates."""

import numpy as np
import pytest
import torch
from synthetic import make_session

from ibl_mtm.errors import UserError
from ibl_mtm.evaluation.activity.embed import embed
from ibl_mtm.evaluation.activity.predictions import predict
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import trial_format


@pytest.fixture(scope="module")
def ds():
    return make_session(n_units=9, n_trials=40, n_bins=20, seed=4)


@pytest.fixture(scope="module")
def model(ds):
    torch.manual_seed(0)
    units = tuple(ds.unit.values.tolist())
    scope = Scope(
        units, (ds.attrs["eid"],), ("CA1",), trial_format(ds), ("neuron", "causal"), "beryl", 2
    )
    settings = ModelSettings(width=12, layers=1, heads=2, mlp=16, stitch_width=None)
    model = MtM(settings, scope)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize("prompt", ["neuron", "causal"])
def test_rates_are_read_out_of_the_embedding(model, ds, prompt):
    states = embed(model, ds, prompt)
    assert states.dims == ("trial", "time", "feature")
    assert states.shape == (40, 20, 12)
    assert states.dtype == np.float32
    assert np.array_equal(states.trial, ds.trial)
    assert np.array_equal(states.time, ds.time)
    weights, bias = model.read_out.detach().numpy(), model.read_out_bias.detach().numpy()
    rates = np.exp(states.values @ weights.T + bias)
    assert np.allclose(rates, predict(model, ds, prompt=prompt), rtol=1e-4)


def test_trials_are_embedded_each_for_itself(model, ds):
    some = ds.isel(trial=[7, 3])
    assert np.allclose(embed(model, some), embed(model, ds).isel(trial=[7, 3]), atol=1e-5)


def test_the_causal_embedding_knows_only_the_past(model, ds):
    other = ds.copy(deep=True)
    other.spikes[{"time": slice(12, None)}] += 3
    before, after = (embed(model, d, "causal").isel(time=slice(0, 12)) for d in (ds, other))
    assert np.array_equal(before, after)
    assert not np.allclose(embed(model, ds).isel(time=0), embed(model, other).isel(time=0))


def test_bad_requests_are_told(model, ds):
    with pytest.raises(UserError, match="unknown prompt 'nothing'"):
        embed(model, ds, "nothing")
    with pytest.raises(UserError, match="not trained on session"):
        embed(model, make_session(n_units=9, n_trials=4, n_bins=20, seed=5))
