"""Rates in the windows against those of the whole recording."""

from types import SimpleNamespace

import numpy as np
import pytest

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.plausible import check_rates

#: 100 windows of 0.1 s in 1000 s.
EDGES = np.linspace(5, 995, 100)[:, None] + np.linspace(0, 0.1, 6)


def recording(within, between):
    """So many spikes per window, and so many between two of them."""
    inside = [np.linspace(*w[[0, -1]], within + 2)[1:-1] for w in EDGES]
    outside = [np.linspace(w[-1] + 0.1, w[-1] + 9, between) for w in EDGES]
    times = np.sort(np.concatenate([[0.0], *inside, *outside, [1000.0]]))
    return SimpleNamespace(
        eid="x", insertions=[SimpleNamespace(called="alf/probe00/spikes.times", times=times)]
    )


def test_spikes_that_were_cut_out_around_trials_are_doubtful_and_kept():
    (note,) = check_rates(recording(within=5, between=0), EDGES)
    assert "50.0 spikes/s in the windows, but 0.5 over the recording" in note


def test_windows_nearly_without_spikes_are_refused():
    with pytest.raises(SessionError, match=r"0\.0 spikes/s in the windows, but 49\.8 over"):
        check_rates(recording(within=0, between=500), EDGES)


def test_equal_rates_are_no_doubt():
    assert check_rates(recording(within=5, between=500), EDGES) == []
