"""What behaviour is decoded from: spikes of a window, and what a model makes of them.

features = window_features(recording, starts, model)
features["spikes"], features["rates"], features["states"]         # (window, 50, feature)
"""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ibl_mtm.benchmark.counts import count_window
from ibl_mtm.benchmark.predict.adaptation import bins_before
from ibl_mtm.benchmark.tasks import N_BINS
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.model.mtm import Group, MtM

__all__ = ["Reduced", "window_features"]

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
    spikes, units = recording.spikes(), recording.unit_ids
    n_before = 0 if model is None else bins_before(model.scope.trial_format)
    counts = np.stack([count_window(spikes, len(units), float(t), n_before) for t in starts])
    smooth = gaussian_filter1d(np.sqrt(counts[:, n_before:]).astype(np.float32), _WIDTH, axis=1)
    features = {"spikes": smooth}
    if model is not None:
        features |= _of_model(model, recording.eid, units, counts)
    return features


@torch.inference_mode()
def _of_model(
    model: MtM, eid: str, units: NDArray[np.str_], counts: np.ndarray
) -> dict[str, Array]:
    row = {unit: at for at, unit in enumerate(model.scope.units)}
    rows = torch.tensor([row[unit] for unit in units])
    session = model.scope.sessions.index(eid)
    nothing = torch.zeros(1, 1, 1, dtype=torch.bool)
    rates, states = [], []
    for some in torch.from_numpy(counts.astype(np.int16)).split(_AT_ONCE):
        group = Group(some, nothing, rows, session, "neuron")
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
        n_components = min(n_most, *values.shape)
        self._steps = make_pipeline(StandardScaler(), PCA(n_components, svd_solver="full"))
        self._steps.fit(values.astype(np.float64))
        spread = np.sqrt(self._steps[-1].explained_variance_)
        # What varies by nothing but rounding would be noise.
        self.n_components = max(1, int((spread > 1e-5 * spread[0]).sum()))
        self._unit = float(spread[0]) or 1.0

    def __call__(self, values: np.ndarray) -> NDArray[np.float64]:
        """Components of windows, (window, component); the first varies by about 1."""
        found: NDArray[np.float64] = self._steps.transform(values.astype(np.float64))
        return found[:, : self.n_components] / self._unit
