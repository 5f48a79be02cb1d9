"""Spike counts of a session that are decoded when they are asked for, wherever they come from.

spikes = spikes_of(ds)                          # reads no counts yet
counts = spikes.read(trials, units)             # (trial, time, unit), each chunk decoded once
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import xarray as xr

from ibl_mtm.errors import DAMAGE, SessionError

__all__ = ["Spikes", "spikes_of"]


@dataclass(frozen=True)
class Spikes:
    """Counts that are decoded when they are asked for.

    Attributes
    ----------
    eid
        The session.
    shape
        Numbers of trials, time bins and units.
    dtype
        uint8 or uint16.
    trials_per_chunk
        How many trials are decoded together.
    decode
        Decodes the trials of one chunk, by its number, into the first rows of an array (trial,
        time, unit) for a whole chunk; raises `SessionError` if it is damaged, missing, or of a
        session that was replaced.
    """

    eid: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    trials_per_chunk: int
    decode: Callable[[int, np.ndarray], None]

    def chunks(self, trials: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
        """Decode the chunks that hold some trials, one after the other into the same memory.

        Parameters
        ----------
        trials : ndarray of int
            Positions, increasing.

        Yields
        ------
        part : slice
            Which of `trials` the chunk holds.
        rows : ndarray of int
            Where it holds them.
        chunk : ndarray (trial, time, unit)
            Valid until the next one.
        """
        # New memory for each chunk would take longer than to decode it.
        chunk = np.empty((self.trials_per_chunk, *self.shape[1:]), self.dtype)
        for number in np.unique(trials // self.trials_per_chunk):
            first = number * self.trials_per_chunk
            part = slice(*np.searchsorted(trials, (first, first + self.trials_per_chunk)))
            self.decode(int(number), chunk)
            yield part, trials[part] - first, chunk

    def read(self, trials: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Counts of some trials and units, (trial, time, unit).

        Parameters
        ----------
        trials, units : ndarray of int
            Positions, increasing.
        """
        counts = np.empty((len(trials), self.shape[1], len(units)), self.dtype)
        for part, rows, chunk in self.chunks(trials):
            # The mode spares a copy: positions are known to be inside.
            if len(units) == self.shape[2]:
                np.take(chunk, rows, 0, out=counts[part], mode="clip")
            else:
                np.take(chunk[rows], units, 2, out=counts[part], mode="clip")
        return counts


def spikes_of(ds: xr.Dataset) -> Spikes:
    """Spike counts of a session's dataset, wherever that has them from."""
    array, eid = ds.spikes, str(ds.attrs["eid"])
    size = int(array.encoding.get("preferred_chunks", {}).get("trial", max(1, len(array))))

    def decode(number: int, chunk: np.ndarray) -> None:
        try:
            values = array[number * size : (number + 1) * size].values
        except DAMAGE as error:
            if isinstance(error, SessionError):
                raise
            raise SessionError(eid, f"spikes, chunk {number}: {error}") from error
        chunk[: len(values)] = values

    return Spikes(eid, array.shape, array.dtype, size, decode)
