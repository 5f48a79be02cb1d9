"""The known firing rates of a simulated session, from the files kept beside it.

    truth = open_truth(Path("ONE"), eid)
    expected = truth.expected_counts(units, window_start, n_bins=100, bin_size=0.02)

Rates are kept as what they are made of, a session's latents and its units' loadings on them, so
an hour of two thousand units is a few tens of megabytes. Latents and loadings are integers
(fixed-point numbers): their products add up exactly, in any order and on any machine.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ibl_mtm.errors import UserError
from ibl_mtm.one_files.marker import MARKER, TRUTH_FOLDER

__all__ = [
    "GRID",
    "MAX_RATE",
    "Truth",
    "open_truth",
    "to_fixed_point",
    "unit_dtype",
    "write_truth",
]

GRID = 0.01  # s; rates are constant within a step of the grid
MAX_RATE = 150.0  # Hz
_LATENT_UNIT, _WEIGHT_UNIT = 2.0**-10, 2.0**-12
_BLOCK = 2_000_000  # rates held in memory at a time


def unit_dtype(n_columns: int) -> np.dtype:
    """One record a unit: its uuid, its population, its baseline in Hz and its weights."""
    return np.dtype(
        [
            ("uuid", "<U36"),
            ("population", "<i2"),
            ("baseline", "<f8"),
            ("weights", "<i2", (n_columns,)),
        ]
    )


def to_fixed_point(
    values: NDArray[np.floating], kind: Literal["latents", "weights"]
) -> NDArray[np.int16]:
    """Round latents or weights to the integers that are stored."""
    unit = _LATENT_UNIT if kind == "latents" else _WEIGHT_UNIT
    limit = np.iinfo(np.int16).max
    return np.clip(np.rint(values / unit), -limit, limit).astype(np.int16)


@dataclass(frozen=True)
class Truth:
    """The firing rates that a session's spikes were drawn from.

    Attributes
    ----------
    latents
        (padding + step + padding, column) int16: time course of each column on the grid that
        starts with the recording.
    lags
        (population, column) int16: steps by which a population follows a column; at most
        `padding` either way.
    units
        Records as in `unit_dtype`.
    padding
        Steps of `latents` before the recording, and as many after it.
    """

    latents: NDArray[np.int16]
    lags: NDArray[np.int16]
    units: NDArray[np.void]
    padding: int

    @property
    def n_steps(self) -> int:
        """Steps of the grid within the recording."""
        return len(self.latents) - 2 * self.padding

    def rates(self, steps: NDArray[np.integer]) -> NDArray[np.float64]:
        """Firing rates at steps of the grid, (step, unit), Hz; 0 outside the recording."""
        inside = (steps >= 0) & (steps < self.n_steps)
        rows = np.where(inside, steps, 0) + self.padding
        rates = np.empty((len(steps), len(self.units)))
        for population in np.unique(self.units["population"]):
            members = self.units["population"] == population
            columns = np.arange(self.latents.shape[1])
            seen = self.latents[rows[:, None] - self.lags[population], columns]
            weights = self.units["weights"][members].T.astype(np.float64)
            log_gain = (seen.astype(np.float64) @ weights) * (_LATENT_UNIT * _WEIGHT_UNIT)
            rates[:, members] = self.units["baseline"][members] * np.exp(log_gain)
        np.minimum(rates, MAX_RATE, out=rates)
        rates[~inside] = 0
        return rates

    def expected_counts(
        self, units: Sequence[str], window_start: ArrayLike, n_bins: int, bin_size: float
    ) -> NDArray[np.float32]:
        """Expected number of spikes in each bin: the exact integral of the rate over it.

        Parameters
        ----------
        units
            Uuids of the units wanted, in the order wanted.
        window_start
            (trial,) s, session clock: the left edge of each trial's first bin.
        n_bins, bin_size
            Number of bins in a window, and their width in s.

        Returns
        -------
        (trial, time, unit) float32, spikes per bin.

        Raises
        ------
        UserError
            If a unit is not of this session.
        """
        chosen = self._select(units)
        start = np.asarray(window_start, np.float64)
        # Edges as the cache places them, then in steps of the grid.
        edges = (start[:, None] + np.arange(n_bins + 1) * bin_size) / GRID
        first = np.floor(edges[:, 0]).astype(np.int64)
        width = int(np.ceil(n_bins * bin_size / GRID)) + 2
        expected = np.empty((len(start), n_bins, len(chosen.units)), np.float32)
        trials_at_once = max(1, _BLOCK // (width * max(1, len(chosen.units))))
        for begin in range(0, len(start), trials_at_once):
            trials = slice(begin, begin + trials_at_once)
            steps = first[trials, None] + np.arange(width)
            rates = chosen.rates(steps.ravel()).reshape(*steps.shape, -1) * GRID
            until = np.zeros_like(rates)
            np.cumsum(rates[:, :-1], axis=1, out=until[:, 1:])
            position = edges[trials] - first[trials, None]
            step = np.minimum(np.floor(position).astype(np.int64), width - 1)
            row = np.arange(len(steps))[:, None]
            integral = until[row, step] + (position - step)[..., None] * rates[row, step]
            expected[trials] = np.diff(integral, axis=1)
        return expected

    def latents_in(
        self, window_start: ArrayLike, n_bins: int, bin_size: float
    ) -> NDArray[np.float64]:
        """Mean of each column in each bin, (trial, time, column), as no population's lag has it.

        Parameters are those of `expected_counts`. A bin holds the steps whose centres lie in it;
        beyond the recording the first or last step goes on.
        """
        start = np.asarray(window_start, np.float64)[:, None, None]
        parts = max(1, round(bin_size / GRID))
        inside = (np.arange(parts) + 0.5) / parts * bin_size
        times = start + np.arange(n_bins)[:, None] * bin_size + inside
        steps = np.floor(times / GRID).astype(np.int64).clip(0, self.n_steps - 1)
        return self.latents[steps + self.padding].mean(2) * _LATENT_UNIT

    def without(self, columns: Sequence[int]) -> "Truth":
        """The rates that one expects who knows all but these columns and each unit's mean rate.

        What they multiply a unit's rate by is replaced by its mean over the recording.
        """
        own = np.asarray(self.latents[self.padding : self.padding + self.n_steps, columns])
        units = self.units.copy()
        weights = self.units["weights"][:, columns].T.astype(np.float64)
        gain = np.zeros(len(units))
        for block in np.array_split(own, max(1, own.shape[0] * len(units) // _BLOCK)):
            log_gain = (block.astype(np.float64) @ weights) * (_LATENT_UNIT * _WEIGHT_UNIT)
            gain += np.exp(log_gain).sum(0)
        units["baseline"] *= gain / self.n_steps
        units["weights"][:, columns] = 0
        return replace(self, units=units)

    def _select(self, units: Sequence[str]) -> "Truth":
        index = {str(uuid): row for row, uuid in enumerate(self.units["uuid"])}
        unknown = [unit for unit in units if unit not in index]
        if unknown:
            raise UserError(
                f"no true rate is known for unit '{unknown[0]}'"
                f" ({len(unknown)} of {len(units)} units are not of this simulated session)"
            )
        rows = np.array([index[unit] for unit in units], np.int64)
        return replace(self, units=self.units[rows])


def write_truth(root: Path, eid: str, truth: Truth) -> None:
    """Keep a session's true rates under ``ROOT/true_rates/EID``, where ONE does not look."""
    folder = root / TRUTH_FOLDER / eid
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "latents.npy", truth.latents)
    np.save(folder / "lags.npy", truth.lags)
    np.save(folder / "units.npy", truth.units)


def open_truth(root: Path, eid: str) -> Truth:
    """Open the true rates of a simulated session.

    Parameters
    ----------
    root
        The folder that the experiment was simulated into.
    eid
        The session.

    Raises
    ------
    UserError
        If the folder holds no finished simulated experiment, or no such session.
    """
    marker = Path(root) / TRUTH_FOLDER / MARKER
    if not marker.is_file():
        raise UserError(f"{root} holds no simulated experiment, so its true rates are not known")
    if not json.loads(marker.read_text(encoding="utf-8"))["complete"]:
        raise UserError(f"the simulation in {root} was interrupted; simulate it again to finish it")
    folder = marker.parent / eid
    if not (folder / "units.npy").is_file():
        raise UserError(f"session '{eid}' is not of the simulated experiment in {root}")
    lags = np.load(folder / "lags.npy")
    return Truth(
        latents=np.load(folder / "latents.npy", mmap_mode="r"),
        lags=lags,
        units=np.load(folder / "units.npy"),
        padding=int(np.abs(lags).max()),
    )
