"""Pseudo-sessions: blocks by the task's rule, and a null that slow drift does not fool."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import expon

from ibl_mtm.evaluation.behaviour.linear_decoders import Features, decode_class
from ibl_mtm.evaluation.behaviour.pseudo_sessions import draw_blocks, p_value, pseudo_blocks


def runs_of(values):
    cuts = np.flatnonzero(np.diff(values)) + 1
    return np.split(values, cuts)


def test_blocks_follow_the_rule_of_the_task():
    rng = np.random.default_rng(0)
    lengths, firsts = [], []
    for _ in range(400):
        prior = draw_blocks(700, rng)
        unbiased, *blocks = runs_of(prior)
        assert len(unbiased) == 90
        assert (unbiased == 0.5).all()
        firsts.append(blocks[0][0])
        sides = [block[0] for block in blocks]
        assert set(sides) <= {0.2, 0.8}
        assert all(a != b for a, b in pairwise(sides))
        lengths += [len(block) for block in blocks[:-1]]  # the last is cut off
    assert (min(lengths), max(lengths)) == (20, 99)  # whole trials of lengths below 100
    assert np.mean(np.array(firsts) == 0.2) == pytest.approx(0.5, abs=0.08)
    # Long blocks are cut off by the end more often: the early ones are the rule's.
    cut = expon(scale=60)
    mass = cut.cdf(100) - cut.cdf(20)
    x = np.linspace(20, 100, 10_001)
    mean = np.trapezoid(np.floor(x) * cut.pdf(x), x) / mass
    first = [len(runs_of(draw_blocks(700, rng))[1]) for _ in range(4000)]
    assert np.mean(first) == pytest.approx(mean, abs=1.0)


def test_trials_that_were_left_out_count():
    """Labels are looked up by the number of a trial, and the first 90 have none."""
    trial = np.array([0, 3, 89, 90, 95, 200, 201, 420])
    labels = pseudo_blocks(trial, 300, seed=1)
    assert labels.shape == (300, 8)
    assert (labels[:, :3] == 0).all()
    assert (np.abs(labels[:, 3:]) == 1).all()
    assert (labels[:, 3] == labels[:, 4]).all()  # five trials into the same block
    assert np.mean(labels[:, 5] == labels[:, 6]) > 0.95
    assert np.mean(labels[:, 3] == labels[:, 7]) == pytest.approx(0.5, abs=0.1)


def test_a_session_whose_first_block_comes_early_is_drawn_alike():
    labels = pseudo_blocks(np.arange(60), 50, seed=1, unbiased=12)
    assert (labels[:, :12] == 0).all()
    assert (np.abs(labels[:, 12:32]) == 1).all()


def test_p_counts_the_score_itself():
    assert p_value(0.8, [0.7, 0.8, 0.9]) == (1 + 2) / (1 + 3)
    assert p_value(1.0, []) == 1.0


def test_a_drift_is_no_code_for_the_block():
    """A feature that wanders slowly tells shuffled trials apart, but no block from another."""
    n, rng = 400, np.random.default_rng(3)
    trial = np.arange(n + 90)[90:]
    test = rng.random(n) < 0.3
    block = np.sign(draw_blocks(n + 90, rng)[90:] - 0.5).astype(int)
    drift = np.cumsum(rng.normal(size=(n, 6)), axis=0)
    features = Features((drift + rng.normal(size=(n, 6)))[:, None, :])
    shuffled = decode_class(features, block, ~test, test, shuffles=50)
    pseudo = decode_class(features, block, ~test, test, surrogates=pseudo_blocks(trial, 99, seed=0))
    assert shuffled.accuracy == pseudo.accuracy > 0.7
    assert shuffled.p["accuracy"] < 0.03
    assert pseudo.p["accuracy"] > 0.05
    assert pseudo.chance["accuracy"] > shuffled.chance["accuracy"] + 0.1
    # And a feature that is the block is found all the same.
    told = Features((block + rng.normal(0, 0.5, n))[:, None, None])
    found = decode_class(told, block, ~test, test, surrogates=pseudo_blocks(trial, 99, seed=0))
    assert found.p["accuracy"] == 1 / 100
