"""Sessions of binned counts, as teaching copies share them, laid out as files of ONE.

    python -m ibl_mtm.one_files.binned FOLDER_OF_NPZ ROOT --lab steinmetzlab

Each ``.npz`` holds `spikes` (trial, time, unit; counts), `time` (trial,; centre of the first bin
on the session's clock, s), `bin` (s), `region` (unit,; Allen acronyms), `subject`, `date`, and of
the trials `contrast_left`, `contrast_right` (a stimulus on each side) and `feedback` (1 reward, -1
none). A spike is drawn uniformly inside of its bin, from a seed: counts in these bins come back as
they were. The stimulus is on the side of the higher contrast; the choice is known where it was
rewarded and the contrasts differ. What the file does not say (movement, response, block) is missing
in the tables too.

A session appears whole or not at all, and one that is there stays: called again, this goes on. Its
number is the position of its file among the others', from 1 on.
"""

import argparse
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ibl_mtm.one_files.regions import atlas

__all__ = ["write_binned_session"]

logger = logging.getLogger(__name__)


def write_binned_session(file: Path, root: Path, lab: str, number: int, seed: int = 0) -> Path:
    """Write one session below `root`, whole or not at all; one that is there stays as it is.

    Parameters
    ----------
    file
        The ``.npz``, read without pickles.
    root
        Folder of the ONE layout.
    lab
        Name of the laboratory.
    number
        Of the session on its day.
    seed
        Of the spike times within bins.

    Returns
    -------
    The session's folder.

    Raises
    ------
    KeyError
        If an array is missing.
    ValueError
        If a region is no Allen acronym, or trials overlap.
    """
    with np.load(file, allow_pickle=False) as arrays:
        subject, date = str(arrays["subject"]), str(arrays["date"])
        folder = root / lab / "Subjects" / subject / date / f"{number:03d}"
        if folder.exists():  # whole: it was put there under this name when all was written
            return folder
        data = {name: arrays[name] for name in arrays.files}
    counts, width = data["spikes"], float(data["bin"])
    onset = data["time"].astype(float) - width / 2
    # Some rounding aside: a trial may begin where the last one ends.
    if (np.diff(onset) < counts.shape[1] * width - 1e-9).any():
        raise ValueError(f"{file}: trials overlap")
    region = data["region"].astype(str)
    if strange := sorted(set(region) - set(atlas().acronym)):
        raise ValueError(f"{file}: '{strange[0]}' is no acronym of the Allen atlas")
    # Beside its place, under a name that is no session's: a killed one is begun anew.
    aside = folder.with_name(f"{number:03d}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    probe = aside / "alf" / "probe00" / "pykilosort"
    probe.mkdir(parents=True)
    times, clusters = _spikes(counts, onset, width, np.random.default_rng(seed))
    np.save(probe / "spikes.times.npy", times)
    np.save(probe / "spikes.clusters.npy", clusters)
    np.save(probe / "clusters.channels.npy", np.arange(len(region)))
    ids = np.abs(atlas().acronym2id(region))
    np.save(probe / "channels.brainLocationIds_ccf_2017.npy", ids)
    for name, axes in (("localCoordinates", 2), ("mlapdv", 3)):  # nobody says where they were
        np.save(probe / f"channels.{name}.npy", np.full((len(region), axes), np.nan))
    np.save(probe / "channels.rawInd.npy", np.arange(len(region)))
    _trials(data, onset).to_parquet(aside / "alf" / "_ibl_trials.table.pqt")
    os.replace(aside, folder)
    return folder


def _spikes(
    counts: np.ndarray, onset: np.ndarray, width: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    trial, step, unit = np.nonzero(counts)
    repeats = counts[trial, step, unit]
    trial, step, unit = (np.repeat(index, repeats) for index in (trial, step, unit))
    # Clear of the edges, where rounding decides.
    times = onset[trial] + (step + rng.uniform(0.01, 0.99, len(step))) * width
    order = np.argsort(times, kind="stable")
    # The first and the last spike tell how long the recording was: longer than any trial.
    ends = np.array([onset[0] - 1, onset[-1] + counts.shape[1] * width + 1])
    times = np.concatenate([ends[:1], times[order], ends[1:]])
    return times, np.concatenate([[0], unit[order], [counts.shape[2] - 1]]).astype(np.uint32)


def _trials(data: dict[str, Any], onset: np.ndarray) -> pd.DataFrame:
    left, right = data["contrast_left"].astype(float), data["contrast_right"].astype(float)
    rewarded = data["feedback"] == 1
    # What is not known has no column: a rule about it would leave every trial out.
    table = {
        "stimOn_times": onset,
        "choice": np.where(rewarded & (left != right), np.sign(left - right), np.nan),
        "feedbackType": data["feedback"].astype(float),
        "contrastLeft": np.where(left > right, left, np.nan),
        "contrastRight": np.where(right > left, right, np.nan),
        "intervals_0": onset,
        "intervals_1": onset + data["spikes"].shape[1] * float(data["bin"]),
    }
    return pd.DataFrame(table)


def main() -> None:
    """Write every ``.npz`` of a folder; what is there already stays."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("root", type=Path)
    parser.add_argument("--lab", required=True)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    files = sorted(arguments.source.glob("*.npz"))
    if not files:
        parser.error(f"no .npz file in {arguments.source}")
    for number, file in enumerate(files, start=1):
        try:
            folder = write_binned_session(file, arguments.root, arguments.lab, number, seed=number)
        except KeyError as error:
            parser.exit(2, f"{file}: {error.args[0]}\n")
        except (ValueError, OSError) as error:
            parser.exit(2, f"{error}\n")
        logger.info("%s: %s", file, folder)


if __name__ == "__main__":
    main()
