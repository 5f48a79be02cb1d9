"""Read 2 s windows of spikes through torch_brain's lazy HDF5 dataset; run by benchmarks/loader.py.

    python torch_brain_windows.py FOLDER            # of NAME.npz: times, units, starts

Prints JSON: windows per second, as they are and binned to 20 ms counts, and the spikes seen.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
from torch_brain.data import ArrayDict, Data, Interval, IrregularTimeSeries
from torch_brain.datasets import Dataset, DatasetIndex
from torch_brain.utils.binning import bin_spikes

LENGTH, BIN, N_WINDOWS = 2.0, 0.02, 600


def main() -> None:
    folder = Path(sys.argv[1])
    windows, n_units = [], 0
    for path in sorted(folder.glob("*.npz")):
        spikes = np.load(path)
        n_units = int(spikes["units"].max()) + 1
        domain = Interval(0.0, float(spikes["starts"][-1] + 2 * LENGTH))
        series = IrregularTimeSeries(
            timestamps=spikes["times"], unit_index=spikes["units"], domain=domain
        )
        units = ArrayDict(id=np.arange(n_units).astype(str))
        Data(spikes=series, units=units, domain=domain).save(path.with_suffix(".h5"))
        windows += [(path.stem, float(start)) for start in spikes["starts"]]
    dataset = Dataset(folder)
    rng = np.random.default_rng(0)
    result = {}
    for binned in (False, True):
        seen = 0
        begin = time.perf_counter()
        for number in rng.choice(len(windows), N_WINDOWS):
            name, start = windows[number]
            spikes = dataset[DatasetIndex(name, start, start + LENGTH)].spikes
            if binned:
                seen += int(bin_spikes(spikes, n_units, BIN).sum())
            else:
                seen += len(spikes.unit_index) and len(spikes.timestamps)
        seconds = time.perf_counter() - begin
        result["binned" if binned else "unbinned"] = N_WINDOWS / seconds
        result["spikes"] = seen
    print(json.dumps(result))


if __name__ == "__main__":
    main()
