"""Two minutes of a real recording, laid out as a session in ONE's layout."""

from pathlib import Path

import numpy as np
import pytest

from ibl_mtm.ingest.recording import session_id

SHARED = Path(__file__).parents[2].parent / "shared" / "data" / "real_recording"


def write_real_recording(root: Path) -> str:
    """Write its spikes and clusters, and nothing else, under `root`; returns the eid.

    Skips the test that asks where the recording is not at hand.
    """
    if not SHARED.is_dir():
        pytest.skip(f"the real recording is not at {SHARED}")
    place = ("reallab", "REAL_001", "2019-12-10", "001")
    lab, subject, date, number = place
    folder = root / lab / "Subjects" / subject / date / number / "alf" / "probe00" / "pykilosort"
    folder.mkdir(parents=True)
    for name in ("times", "clusters"):
        np.save(folder / f"spikes.{name}.npy", np.load(SHARED / f"spikes.{name}.npy"))
    return session_id(*place)
