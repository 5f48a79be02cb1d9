"""Predictions of a model for TS2: every window of a split, some at a time.

for part, log_rates in predict_windows(model, eid, units, truth):
    log_rates                                   # (w, 50 or 5, n), log expected counts per bin
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ibl_mtm.benchmark.entity_ids import encode_ids
from ibl_mtm.benchmark.metrics import PoissonSums
from ibl_mtm.benchmark.predict.adaptation import bins_before
from ibl_mtm.benchmark.tasks import BIN, N_BINS, N_FORECAST, WINDOW, Task
from ibl_mtm.benchmark.truth import NeuralTruth
from ibl_mtm.model.dynamics.posterior import Posterior
from ibl_mtm.model.dynamics.system import LinearDynamics
from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import SCHEMES, Scheme
from ibl_mtm.model.mtm import MtM

__all__ = ["choose_share", "has_dynamics", "infer_in_turn", "neural_tensors", "predict_windows"]

#: Log of the lowest and the highest rate that is written: finite in half precision too.
_LOWEST, _HIGHEST = -16.0, 8.0
#: Windows from one to the next whose dynamics are inferred without a neighbour's.
_NEIGHBOURS = 8
#: Windows of val, about, by which the share of linear dynamics is chosen.
_CHOOSE_BY = 500
#: Windows at a time, at most.
_AT_ONCE = 256

#: The prompt under which a model is asked.
_SCHEMES: dict[str, Scheme] = {"ts2-co_smoothing": "neuron", "ts2-forecasting": "causal"}

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
    scheme = _SCHEMES[truth.task.name]
    rows = model.scope.rows_of(units).to(device)
    session = model.scope.sessions.index(eid)
    n_time = n_before + N_BINS
    outputs: torch.Tensor | None = None
    if truth.task.n_steps == N_FORECAST:
        hidden = torch.zeros(1, n_time, 1, dtype=torch.bool, device=device)
        hidden[:, -N_FORECAST:] = True
    else:
        hidden = torch.zeros(1, 1, len(units), dtype=torch.bool, device=device)
        hidden[..., torch.from_numpy(truth.columns)] = True
        outputs = torch.from_numpy(truth.columns).to(device)
    causal = model.is_causal(scheme)
    # A bin of many windows is embedded once; of hidden steps there is nothing to see.
    steps = hidden.shape[1] == n_time
    of_bin = torch.zeros_like(hidden[:, :1]) if steps else hidden
    unseen = Group(rows.new_zeros(1, 1, len(rows)), ~of_bin, rows, session, scheme)
    for part, bins, which in _together(truth.bins(n_before)):
        distinct = torch.from_numpy(bins.astype(np.int16)).to(device)
        at = torch.from_numpy(which).to(device)
        embedded = model.embed_counts(Group(distinct[None], of_bin, rows, session, scheme))[0][at]
        if steps:
            embedded = torch.where(hidden, model.embed_counts(unseen), embedded)
        times = torch.from_numpy(truth.starts[part]).to(device)
        group = Group(
            distinct[at], hidden, rows, session, scheme, causal, outputs=outputs, times=times
        )
        state = model.encode([group], embedded)[:, -truth.task.n_steps :]
        posterior = None
        if model.share_of(scheme):
            system = model.dynamics_of(rows, session)
            posterior = infer_in_turn(system, group.counts, ~hidden, times)
        log_rates = model.blend(model.decode(state, group), group, posterior)
        yield part, log_rates.clamp(_LOWEST, _HIGHEST).float().cpu().numpy()


def choose_share(
    model: MtM, eid: str, units: NDArray[np.str_], truth: NeuralTruth
) -> dict[str, float]:
    """Give linear dynamics the part in log rates that a task's own score on val likes best.

    What training chose it by are masks of the training, drawn to what is usual; and with no part at
    all of the dynamics, gains of units that drift are left out, too.

    Parameters
    ----------
    model
        Adapted to the session; its share in the task is changed.
    eid, units
        As for `predict_windows`.
    truth
        Of the val domain. Windows are thinned; for co-smoothing five tenths of the units are hidden
        one after the other, since a single one holds few.

    Returns
    -------
    Poisson D² by the share that was tried.
    """
    at = SCHEMES.index(_SCHEMES[truth.task.name])
    chosen = model.share_of(SCHEMES[at])
    if not chosen:
        return {}
    truth = replace(truth, pieces=_thinned(truth.pieces))
    scores = {}
    for share in (chosen, 0.0):  # of equals the first
        model.dynamics_share[at] = share
        of_units = []
        for part in _folds(truth):
            sums = PoissonSums(len(part.columns))
            predicted = predict_windows(model, eid, units, part)
            found = np.concatenate([log_rates for _, log_rates in predicted])
            for windows, counts in part.targets():
                sums.add(found[windows], counts)
            of_units.append(sums.d2())
        d2 = np.concatenate(of_units)
        scores[share] = float(d2[np.isfinite(d2)].mean()) if np.isfinite(d2).any() else 0.0
    model.dynamics_share[at] = max(scores, key=lambda share: scores[share])
    return {f"{share:.3g}": score for share, score in scores.items()}


def has_dynamics(model: MtM, task: Task) -> bool:
    """Whether linear dynamics have any part in what a model predicts for a TS2 task."""
    return model.share_of(_SCHEMES[task.name]) > 0


def _folds(truth: NeuralTruth) -> list[NeuralTruth]:
    """The same windows with other units hidden, a tenth of them each time."""
    if truth.task.n_steps == N_FORECAST:
        return [truth]
    group = np.arange(truth.n_units) % 10
    return [
        replace(truth, columns=np.flatnonzero(group == at)) for at in range(0, group.max() + 1, 2)
    ]


def _thinned(pieces: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """Every so many windows of each trial, so that about `_CHOOSE_BY` are left."""
    n = sum(map(len, pieces))
    return [starts[:: -(-n // _CHOOSE_BY)] for starts in pieces]


def infer_in_turn(
    system: LinearDynamics, counts: torch.Tensor, visible: torch.Tensor, times: torch.Tensor
) -> Posterior:
    """What linear dynamics infer from windows that follow each other closely, in order of time.

    Of every eighth first; the others' modes are looked for at those of the one before, some bins
    on, which is near. They are the same to the tolerance of any mode. (A later one would have seen
    bins that are to be forecast: of these, not even the tolerance may tell.)

    Parameters
    ----------
    system
        Of the session.
    counts : Tensor (B, T, N)
        Of the windows.
    visible : Tensor, bool, broadcastable to (1, T, N)
        Entries that may be looked at, the same in all windows.
    times : Tensor (B,), float64
        When they begin, s on the session's clock.
    """
    at, n = times.cpu().numpy(), len(counts)
    row = np.arange(n)
    begins = np.append(True, np.diff(at) > 1.5 * BIN)  # of trials
    some = np.flatnonzero((row - np.maximum.accumulate(row * begins)) % _NEIGHBOURS == 0)
    earlier = np.searchsorted(some, row, side="right") - 1
    on = np.rint((at - at[some[earlier]]) / BIN).astype(np.int64)
    few, near, ahead = (torch.from_numpy(a).to(times.device) for a in (some, earlier, on))
    first = system.infer(counts[few], visible, gains=system.gains(times[few], len(few)))
    if len(few) == n:
        return first
    bins = torch.arange(counts.shape[1], device=near.device)
    place = (bins + ahead[:, None]).clamp(max=len(bins) - 1)
    mean = first.mean[near].gather(1, place[..., None].expand(-1, -1, first.mean.shape[2]))
    gain = None if first.gain is None else first.gain[near]
    start = replace(first, mean=mean, gain=gain)
    return system.infer(counts, visible, start, system.gains(times, n))


def _together(
    parts: Iterator[tuple[slice, NDArray[Any], NDArray[np.int64]]],
) -> Iterator[tuple[slice, NDArray[Any], NDArray[np.int64]]]:
    """Windows of several short trials at a time (see `NeuralTruth.bins`)."""
    held: list[tuple[slice, NDArray[Any], NDArray[np.int64]]] = []
    for part in parts:
        if held and part[0].stop - held[0][0].start > _AT_ONCE:
            yield _joined(held)
            held = []
        held.append(part)
    if held:
        yield _joined(held)


def _joined(
    parts: list[tuple[slice, NDArray[Any], NDArray[np.int64]]],
) -> tuple[slice, NDArray[Any], NDArray[np.int64]]:
    where, bins, which = zip(*parts, strict=True)
    first = np.cumsum([0, *(len(b) for b in bins[:-1])])
    moved = [of + at for of, at in zip(which, first, strict=True)]
    return slice(where[0].start, where[-1].stop), np.concatenate(bins), np.concatenate(moved)


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
