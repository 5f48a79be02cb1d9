"""What behaviour is decoded from: spikes of a window, and what a model makes of them.

features = window_features(recording, starts, model)
features["spikes"], features["rates"], features["states"]         # (window, 50, feature)
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.decomposition import PCA, KernelPCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ibl_mtm.benchmark.predict.adaptation import bins_before
from ibl_mtm.benchmark.tasks import BIN, N_BINS
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.ingest.align import count_from_start
from ibl_mtm.model.group import Group
from ibl_mtm.model.mtm import MtM

__all__ = ["Reduced", "counts_of", "window_features"]

_WIDTH = 2.0  # bins of the Gaussian that spikes are smoothed with
_AT_ONCE = 32

Array = NDArray[np.float32]


def window_features(
    recording: Recording, starts: NDArray[np.float64], model: MtM | None = None
) -> dict[str, Array]:
    """Features of windows, by what they are.

    Parameters
    ----------
    recording
        Of the build that the model was adapted to.
    starts : ndarray (window,)
        When they begin (s, session clock).
    model
        Adapted to the session; without one there are spikes only.

    Returns
    -------
    ``spikes``: square roots of counts, smoothed. ``rates``: log rates of all units, nothing hidden.
    ``states``: the transformer's output. Each (window, 50, feature).
    """
    counts = counts_of(recording, starts, model)
    scored = np.sqrt(counts[:, -N_BINS:]).astype(np.float32)
    features = {"spikes": gaussian_filter1d(scored, _WIDTH, axis=1)}
    if model is not None:
        features |= _of_model(model, recording.eid, recording.unit_ids, counts, starts)
    return features


def counts_of(
    recording: Recording, starts: NDArray[np.float64], model: MtM | None = None
) -> np.ndarray:
    """Counts of windows, and before them as many bins as a model sees: (window, time, unit)."""
    spikes, n_units = recording.spikes(), len(recording.unit_ids)
    n_before = 0 if model is None else bins_before(model.scope.trial_format)
    return count_from_start(
        spikes.times, spikes.units, n_units, starts - n_before * BIN, BIN, n_before + N_BINS
    )


@torch.inference_mode()
def _of_model(
    model: MtM, eid: str, units: NDArray[np.str_], counts: np.ndarray, starts: NDArray[np.float64]
) -> dict[str, Array]:
    rows = model.scope.rows_of(units)
    session = model.scope.sessions.index(eid)
    nothing = torch.zeros(1, 1, 1, dtype=torch.bool)
    rates, states = [], []
    all_counts, times = torch.from_numpy(counts.astype(np.int16)), torch.from_numpy(starts)
    for some, at in zip(all_counts.split(_AT_ONCE), times.split(_AT_ONCE), strict=True):
        group = Group(some, nothing, rows, session, "neuron", times=at)
        state = model.encode([group])
        rates.append(model.blend(model.decode(state, group), group)[:, -N_BINS:])
        states.append(state[:, -N_BINS:])
    return {"rates": torch.cat(rates).numpy(), "states": torch.cat(states).numpy()}


class Reduced:
    """Principal components of features, of the windows that a decoder is fitted to.

    Parameters
    ----------
    values : ndarray (window, feature)
        Those windows.
    n_most
        Components at most.
    """

    def __init__(self, values: np.ndarray, n_most: int) -> None:
        n, n_features = values.shape
        n_components = min(n_most, n, n_features)
        # Inner products of the smaller side: a tenth of the time of a singular value decomposition.
        found = (
            PCA(n_components, svd_solver="covariance_eigh")
            if n > n_features
            else KernelPCA(n_components, kernel="linear", eigen_solver="dense")
        )
        with np.errstate(invalid="ignore"):  # shares of no variance at all
            self._steps = make_pipeline(StandardScaler(), found).fit(values.astype(np.float64))
        variance = getattr(found, "explained_variance_", None)
        if variance is None:
            variance = found.eigenvalues_ / max(n - 1, 1)
        spread = np.sqrt(variance)
        # What varies by nothing but rounding would be noise.
        self.n_components = max(1, int((spread > 1e-5 * spread[0]).sum()))
        self._unit = float(spread[0]) or 1.0

    def __call__(self, values: np.ndarray) -> NDArray[np.float64]:
        """Components of windows, (window, component); the first varies by about 1."""
        found: NDArray[np.float64] = self._steps.transform(values.astype(np.float64))
        return found[:, : self.n_components] / self._unit
