"""Spikes that are all of one cluster: usual of one, doubtful of few, refused of many."""

import numpy as np
import pytest

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.check_spikes import check_rows


@pytest.mark.parametrize(
    ("n_clusters", "note"), [(1, []), (2, ["p.clusters: every spike is of cluster 0, of 2"])]
)
def test_of_two_clusters_one_may_be_silent_and_it_is_noted(n_clusters, note):
    notes: list[str] = []
    check_rows("x", "p", np.zeros(5, int), n_clusters, notes)
    assert notes == note


def test_of_many_it_is_refused():
    with pytest.raises(SessionError, match=r"p\.clusters: every spike is of cluster 3, of 40"):
        check_rows("x", "p", np.full(5, 3), 40, [])
