"""What torch_brain and temporaldata find in a recording: every array by its place, as one .npz.

python open_brainset.py FILE OUT            # OUT/torch_brain.npz, OUT/temporaldata.npz
"""

import sys
from pathlib import Path
from types import ModuleType

import h5py
import numpy as np
import temporaldata
import torch_brain.data as torch_brain_data


def arrays(node: object, place: str, library: ModuleType) -> dict[str, np.ndarray]:
    found = {}
    if isinstance(node, library.RegularTimeSeries):
        found[f"{place}/timestamps"] = node.timestamps
    if not isinstance(node, library.Data) or getattr(node, "_domain", None) is not None:
        domain = getattr(node, "domain", None)
        if domain is not None:
            found[f"{place}/domain/start"] = domain.start
            found[f"{place}/domain/end"] = domain.end
    for key in node.keys():  # noqa: SIM118  (no mapping)
        value = getattr(node, key)
        name = f"{place}/{key}"
        if isinstance(value, np.ndarray):
            found[name] = value.astype(str) if value.dtype.kind in "OS" else value
        elif isinstance(value, (library.Data, library.ArrayDict)):
            found |= arrays(value, name, library)
        else:
            found[name] = np.asarray(value)
    return found


if __name__ == "__main__":
    path, out = Path(sys.argv[1]), Path(sys.argv[2])
    for name, library in (("torch_brain", torch_brain_data), ("temporaldata", temporaldata)):
        with h5py.File(path, "r") as file:
            data = library.Data.from_hdf5(file)
            found = arrays(data, "", library)
            # Three windows as the benchmark slices them: which samples, which spikes.
            for k, start in enumerate((100.0, 200.0071, 301.25)):
                piece = data.slice(start, start + 1.0)
                found[f"slice/{k}/spikes"] = piece.spikes.timestamps
                found[f"slice/{k}/wheel"] = piece.wheel.wheel_speed
        np.savez(out / f"{name}.npz", **{key.lstrip("/"): v for key, v in found.items()})
