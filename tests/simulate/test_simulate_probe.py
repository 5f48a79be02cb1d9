"""A probe lies in the hemisphere that it is put into."""

import numpy as np
import pytest

from ibl_mtm.simulate.probe import ENTRY, place_channels


@pytest.mark.parametrize("side", [-1, 1])
def test_a_probe_is_on_its_side_and_leads_to_the_midline(side):
    channels = place_channels(np.random.default_rng(0), side)
    lateral, depth = channels.mlapdv[:, 0], channels.local[:, 1]
    assert (np.sign(lateral) == side).all()  # left is negative in the IBL's coordinates
    # The tip, far below the surface, is further from the midline than the entry.
    assert abs(lateral[depth.argmin()]) > abs(lateral[depth.argmax()])
    surface = np.abs(depth - 3720).argmin()
    assert lateral[surface] == pytest.approx(side * ENTRY[0], abs=20)
    assert (np.diff(channels.mlapdv[:, 2]) >= 0).all()  # from the tip up


def test_the_first_probe_of_a_session_is_on_the_left_and_the_second_on_the_right(experiment):
    sides = {}
    for eid in experiment.eids:
        for folder in experiment.sortings(eid):
            probe = next(part for part in folder.parts if part.startswith("probe"))
            lateral = np.load(folder / "channels.mlapdv.npy")[:, 0]
            sides.setdefault(probe, set()).update(np.sign(lateral))
    assert sides == {"probe00": {-1}, "probe01": {1}}
