"""A session as large as a real one, in bounded memory."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

SCRIPT = """
import json, resource, sys
from pathlib import Path
from ibl_mtm.simulate.simulation import Simulation, simulate

(eid,) = simulate(Path(sys.argv[1]), Simulation(sessions=1, scale="full"))
status = Path("/proc/self/status")
if status.is_file():
    # Not ru_maxrss: there, a process begins with the peak of the one that started it.
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
    peak = 1024 * int(lines["VmHWM"].split()[0])
else:  # macOS counts bytes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"eid": eid, "peak": peak}))
"""


@pytest.mark.slow
def test_a_full_session_is_real_in_size_and_bounded_in_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=True
    )
    measured = json.loads(done.stdout)
    assert measured["peak"] < 1.5e9
    (alf,) = tmp_path.glob("*/Subjects/*/*/*/alf")
    sorting = alf / "probe00" / "pykilosort"
    times = np.load(sorting / "spikes.times.npy", mmap_mode="r")
    assert 12e6 < len(times) < 20e6
    assert times[-1] > 3600
    assert (np.diff(times[:: len(times) // 10_000]) > 0).all()
    metrics = pd.read_parquet(sorting / "clusters.metrics.pqt")
    assert 800 < len(metrics) < 1000
    assert 0.1 < (metrics["label"] == 1).mean() < 0.3
    assert metrics["spike_count"].sum() == len(times)
    assert len(pd.read_parquet(alf / "_ibl_trials.table.pqt")) == 600
    truth = sum(f.stat().st_size for f in (tmp_path / "true_rates").rglob("*") if f.is_file())
    assert truth < 50e6
