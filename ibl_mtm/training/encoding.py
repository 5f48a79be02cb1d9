"""The read-out of spikes from behaviour alone: fitted once the transformer is trained.

    fit_encoding(model, sessions, settings)

What the transformer makes of behaviour is shared by all sessions, and a new one has it from the
start; a unit's row of the read-out is its own. Few steps of training ask for that row under this
prompt, with few trials they overfit it, and the best step is chosen by other scores. So under the
prompt of `encoding` each unit has a row that is fitted last: by Poisson regression on the
transformer's output, with a penalty that validation trials choose.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ibl_mtm.model.loss import poisson_nll
from ibl_mtm.model.masking import Scheme
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.poisson_regression import PoissonFit, PoissonRegression
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.objective.draw_tasks import SessionRows, make_task, trial_keys
from ibl_mtm.training.settings import RunSettings

__all__ = ["PENALTIES", "USUAL_PENALTY", "fit_encoding"]

PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
"""Of squared weights of standardised outputs; the largest first."""
USUAL_PENALTY = 3.0
"""Of a session without validation trials."""
#: Masks are drawn at "steps" that no training step has, nor a validation.
_STEP = -2_000_000
_SCHEME: Scheme = "encoding"
_BATCH = 32


@torch.no_grad()
def fit_encoding(
    model: MtM, sessions: Sequence[Session], settings: RunSettings, *, refit: bool = True
) -> None:
    """Fit the rows by which units are read out under the prompt of `encoding`.

    Each trial is shown twice: with all of its behaviour, as the task shows it, and with a part of
    it, drawn as in training, so that a model can be asked from any part. A session without
    behaviour, or a model that was not trained for `encoding`, keeps the rows that it has.

    Parameters
    ----------
    model
        Trained; changed in place.
    sessions
        Of the run.
    settings
        The run's.
    refit
        To training and validation trials together, once the penalty is chosen.
    """
    if _SCHEME not in model.scope.schemes or not model.settings.refit_encoding:
        return
    model.eval()
    all_rows = SessionRows.of(sessions, model.scope, model.names_of_modalities)
    for session, rows in zip(sessions, all_rows, strict=True):
        if rows.sources is None:
            continue
        train, val = (_outputs(model, session, rows, settings, s) for s in ("train", "val"))
        penalty = _choose_penalty(train, val) if len(val[0]) else USUAL_PENALTY
        to_fit = [train, val] if refit else [train]
        x, y = (torch.cat([part[at] for part in to_fit]) for at in (0, 1))
        weights, bias = _fit(x, y, penalty)
        model.start_encoding(rows.units, weights, bias)


def _outputs(
    model: MtM, session: Session, rows: SessionRows, settings: RunSettings, split: str
) -> tuple[Tensor, Tensor]:
    """The transformer's output (2 * trial, time, D) for a split, and spike counts.

    Trials that are shown all of their behaviour come first.
    """
    trials, counts = session.trials_in(split), torch.from_numpy(session.read(split))
    n_time, width = model.scope.trial_format.n_time, model.settings.width
    if not len(trials):
        return torch.zeros(0, n_time, width), torch.zeros(0, n_time, len(rows.units))
    outputs = []
    whole = settings.masks.model_copy(
        update={"ratios": settings.masks.ratios.model_copy(update={"encoding": 0.0})}
    )
    for masks in (whole, settings.masks):
        for some in torch.arange(len(trials)).split(_BATCH):
            numbers = trials[some.numpy()]
            key = trial_keys(settings.seed, _STEP, rows.session, session.trial[numbers])
            shown = session.behaviour_of(numbers)
            task = make_task(rows, counts[some], _SCHEME, key, masks, shown)
            outputs.append(model.encode([task.group]))
    return torch.cat(outputs), counts.float().repeat(2, 1, 1)


def _scaled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each output, 1 for one that never changes."""
    flat = x.flatten(0, 1)
    spread = flat.std(0, correction=0)
    return flat.mean(0), torch.where(spread > 1e-6, spread, 1)


def _regression(x: Tensor, y: Tensor) -> PoissonRegression:
    mean, spread = _scaled(x)
    return PoissonRegression(
        ((x - mean) / spread).flatten(0, 1).numpy(), y.flatten(0, 1).contiguous().numpy()
    )


def _choose_penalty(train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor]) -> float:
    """The penalty with the best mean over units, bits/spike, on validation trials shown whole."""
    x, y = (part[: len(part) // 2] for part in val)
    mean, spread = _scaled(train[0])
    regression, fit = _regression(*train), None
    scores: list[float] = []
    for penalty in PENALTIES:
        fit = regression.fit(penalty, fit)
        weights, bias = _unscaled(fit, mean, spread)
        loss = poisson_nll(x @ weights.T + bias, y).sum((0, 1))
        spikes = y.sum((0, 1))
        scores.append(float((-loss / spikes)[spikes > 0].mean()))
        if len(scores) > 2 and max(scores[-2:]) < max(scores[:-2]):
            break  # less only overfits more
    return PENALTIES[int(np.argmax(scores))]


def _fit(x: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    return _unscaled(_regression(x, y).fit(penalty), *_scaled(x))


def _unscaled(fit: PoissonFit, mean: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, D) and biases (N,) for outputs as they are."""
    weights = torch.from_numpy(fit.weights).T / spread
    return weights, torch.from_numpy(fit.intercept) - weights @ mean
