"""Animals differ in their units, but their brain is the same one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibl_mtm.simulate.brain import COLUMNS, POPULATIONS, TASK, make_brain
from ibl_mtm.simulate.population import draw_population


@given(n_units=st.integers(63, 110), seed=st.integers(0, 10_000))
def test_every_region_of_the_repeated_site_has_eight_units_with_spikes(n_units, seed):
    drawn = draw_population(np.random.default_rng(seed), n_units, good=0.75)
    assert len(drawn.population) == n_units
    with_spikes = np.bincount(drawn.population[drawn.baseline > 0], minlength=len(POPULATIONS))
    assert (with_spikes[:5] >= 8).all()
    assert with_spikes[5] >= 3
    assert 1 <= np.sum(drawn.baseline == 0) <= 0.05 * n_units


@given(n_units=st.integers(9, 40), seed=st.integers(0, 10_000))
def test_even_a_few_units_are_spread_over_all_populations(n_units, seed):
    drawn = draw_population(np.random.default_rng(seed), n_units, good=0.75)
    assert set(drawn.population) >= {5}
    assert np.ptp(np.bincount(drawn.population)[:5]) <= max(2, 0.1 * n_units)


def test_typical_loadings_are_shared_across_animals():
    a, b = (draw_population(np.random.default_rng(seed), 4000, 0.75) for seed in (1, 2))

    def mean_loadings(drawn):
        return np.stack([drawn.weights[drawn.population == p].mean(0) for p in range(5)]).ravel()

    assert np.corrcoef(mean_loadings(a), mean_loadings(b))[0, 1] > 0.97
    # ... while regions differ from each other.
    by_region = mean_loadings(a).reshape(5, -1)[:, [COLUMNS.index(name) for name in TASK]]
    between = np.corrcoef(by_region)
    assert np.abs(between[np.triu_indices(5, 1)]).mean() < 0.6


def test_private_latents_reach_only_their_own_population():
    brain = make_brain()
    for row, population in enumerate(POPULATIONS):
        for other in set(POPULATIONS) - {population}:
            columns = [k for k, name in enumerate(COLUMNS) if name.startswith(f"{other}_")]
            assert len(columns) == 3
            assert not brain.loadings[row][:, columns].any()


def test_good_units_pass_every_criterion():
    drawn = draw_population(np.random.default_rng(0), 5000, good=0.75)
    label = drawn.passes.mean(1)
    assert set(np.round(3 * label)) == {0, 1, 2, 3}
    assert np.mean(label == 1) == pytest.approx(0.75 * 0.975, abs=0.03)  # a 40th has no spikes
    assert (label[drawn.baseline == 0] == 0).all()
