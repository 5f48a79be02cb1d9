"""Predictions of a model for TS2: every window of a split, some at a time.

for part, log_rates in predict_windows(model, eid, units, truth):
    log_rates                                   # (w, 50 or 5, n), log expected counts per bin
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from ibl_mtm.benchmark.entity_ids import encode_ids
from ibl_mtm.benchmark.predict.adaptation import bins_before
from ibl_mtm.benchmark.tasks import BIN, N_BINS, N_FORECAST, WINDOW
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.mtm import MtM

__all__ = ["neural_tensors", "predict_windows"]

#: Log of the lowest and the highest rate that is written: finite in half precision too.
_LOWEST, _HIGHEST = -16.0, 8.0

LogRates = NDArray[np.float32]


@torch.inference_mode()
def predict_windows(
    model: MtM, eid: str, units: NDArray[np.str_], truth: NeuralTruth
) -> Iterator[tuple[slice, LogRates]]:
    """Predict what a TS2 task asks for.

    Parameters
    ----------
    model
        Adapted to the session.
    eid
        The session.
    units
        Uuids of all its units, in the file's order.
    truth
        Windows and units that are asked for.

    Yields
    ------
    part : slice
        Which windows.
    log_rates : ndarray (w, 50 or 5, n)
    """
    device, n_before = model.read_in.device, bins_before(model.scope.trial_format)
    rows = model.scope.rows_of(units).to(device)
    session = model.scope.sessions.index(eid)
    n_time = n_before + N_BINS
    outputs: torch.Tensor | None = None
    if truth.task.n_steps == N_FORECAST:
        scheme: Scheme = "causal"
        hidden = torch.zeros(1, n_time, 1, dtype=torch.bool, device=device)
        hidden[:, -N_FORECAST:] = True
    else:
        scheme = "neuron"
        hidden = torch.zeros(1, 1, len(units), dtype=torch.bool, device=device)
        hidden[..., torch.from_numpy(truth.columns)] = True
        outputs = torch.from_numpy(truth.columns).to(device)
    causal = model.is_causal(scheme)
    # A bin of many windows is embedded once; of hidden steps there is nothing to see.
    steps = hidden.shape[1] == n_time
    of_bin = torch.zeros_like(hidden[:, :1]) if steps else hidden
    unseen = Group(rows.new_zeros(1, 1, len(rows)), ~of_bin, rows, session, scheme)
    for part, bins, which in truth.bins(n_before):
        distinct = torch.from_numpy(bins.astype(np.int16)).to(device)
        at = torch.from_numpy(which).to(device)
        embedded = model.embed_counts(Group(distinct[None], of_bin, rows, session, scheme))[0][at]
        if steps:
            embedded = torch.where(hidden, model.embed_counts(unseen), embedded)
        group = Group(
            distinct[at],
            hidden,
            rows,
            session,
            scheme,
            causal,
            outputs=outputs,
            times=torch.from_numpy(truth.starts[part]).to(device),
        )
        state = model.encode([group], embedded)[:, -truth.task.n_steps :]
        log_rates = model.blend(model.decode(state, group), group)
        yield part, log_rates.clamp(_LOWEST, _HIGHEST).float().cpu().numpy()


def neural_tensors(
    truth: NeuralTruth, predictions: Iterator[tuple[slice, LogRates]]
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Tensors and metadata of a file of TS2, in half precision as the benchmark's own."""
    shape = (len(truth.starts), truth.task.n_steps, len(truth.units))
    whole = np.empty(shape, np.float16)
    for part, log_rates in predictions:
        whole[part] = log_rates
    tensors: dict[str, np.ndarray] = {
        "predictions": whole,
        "window_timestamps": truth.starts,
        "unit_ids": encode_ids(truth.units),
    }
    return tensors, {"context_window": str(WINDOW), "bin_size": str(BIN)}
