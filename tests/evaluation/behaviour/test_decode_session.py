"""A session's behaviour: which trials take part, and what stands beside the headline score."""

import numpy as np
import pytest
from synthetic import make_session

from ibl_mtm.evaluation.behaviour import decode_session
from ibl_mtm.evaluation.behaviour.decode_session import decode_behaviour
from ibl_mtm.evaluation.behaviour.linear_decoders import Features
from ibl_mtm.evaluation.behaviour.pseudo_sessions import pseudo_blocks

TASKS = ["choice", "whisker_motion_energy"]


class Known:
    """A predictor whose features are given."""

    region = np.array([""] * 6)

    def __init__(self, features: dict[str, np.ndarray]) -> None:
        self._features = features
        self.prompt = next(iter(features), None)

    def answers(self) -> dict:
        return {}

    def features(self) -> dict[str, Features]:
        return {name: Features(values) for name, values in self._features.items()}


@pytest.fixture
def ds():
    """Choice and whiskers can be read from the spikes; trial numbers are not positions."""
    ds = make_session(n_units=6, n_trials=80, n_bins=10, seed=3)
    spikes = np.random.default_rng(0).poisson(0.5, ds.spikes.shape)
    spikes[:, :, 0] += ds.choice.values[:, None] > 0
    spikes[:, :, 1] += (2 * ds.whisker_motion_energy.values).astype(int)
    ds["spikes"] = ds.spikes.dims, spikes.clip(0, 50).astype(np.uint8)
    return ds.assign_coords(trial=np.arange(80) * 3 + 7)


@pytest.fixture
def split():
    return np.array(["train", "test", "train", "val", "train"])[np.arange(80) % 5]


def logits(found):
    return found.decoded["choice"].logit, found.decoded["whisker_motion_energy"].predicted


@pytest.mark.parametrize("prompts", [(), ("neuron", "causal")])
def test_only_test_trials_that_are_included_are_decoded(ds, split, prompts):
    predictor = Known({p: ds.spikes.values.astype(float) for p in prompts})
    found = decode_behaviour(predictor, ds, split, TASKS)
    expected = np.flatnonzero(ds.included.values & (split == "test"))
    assert 0 < len(expected) < (split == "test").sum()
    for task in TASKS:
        assert found.decoded[task].trials.tolist() == expected.tolist()
        assert found.scores[task]["n_test"] == len(expected)


def test_targets_of_test_trials_and_of_trials_left_out_change_nothing_that_is_decoded(ds, split):
    predictor = Known({"neuron": ds.spikes.values.astype(float)})
    before = logits(decode_behaviour(predictor, ds, split, TASKS))
    others = ds.copy(deep=True)
    spoilt = ~ds.included.values | (split == "test")
    others["choice"].values[spoilt] *= -1
    others["whisker_motion_energy"].values[spoilt] += 7
    after = logits(decode_behaviour(predictor, others, split, TASKS))
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_headline_is_of_the_predictors_prompt_and_raw_spikes_stand_beside(ds, split):
    """One prompt's features tell everything, the other's nothing."""
    told = ds.spikes.values.astype(float)
    noise = np.random.default_rng(1).normal(size=told.shape)
    good = decode_behaviour(Known({"neuron": told, "causal": noise}), ds, split, TASKS)
    poor = decode_behaviour(Known({"neuron": noise, "causal": told}), ds, split, TASKS)
    for found, first, second in ((good, "neuron", "causal"), (poor, "causal", "neuron")):
        for task, key in (("choice", "accuracy"), ("whisker_motion_energy", "r2")):
            score = found.scores[task]
            assert score["prompt"] == "neuron"
            assert score[key] == score["by_prompt"]["neuron"][key]
            assert score["by_prompt"][first][key] > score["by_prompt"][second][key] + 0.2
            assert score["raw_spikes"][key] == score["by_prompt"][first][key]
            assert "chance" in score["by_prompt"]["neuron"]
            assert "chance" not in score["by_prompt"]["causal"]


@pytest.mark.parametrize(("first", "unbiased"), [(12, 3 * 12 + 7), (60, 90)])
def test_pseudo_sessions_begin_to_have_blocks_where_the_session_does(
    ds, split, monkeypatch, first, unbiased
):
    """In numbers of trials, not positions; the task's 90 at the latest."""
    asked = []
    monkeypatch.setattr(
        decode_session,
        "pseudo_blocks",
        lambda trial, n, seed, unbiased: (
            asked.append(unbiased) or pseudo_blocks(trial, n, seed, unbiased)
        ),
    )
    blocks = np.where(np.arange(80) // 7 % 2, 0.2, 0.8)
    blocks[:first] = 0.5
    ds["probability_left"] = "trial", blocks
    decode_behaviour(Known({}), ds, split, ["block"])
    assert asked == [unbiased]
