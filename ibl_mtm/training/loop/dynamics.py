"""The linear dynamical systems beside the transformer: fitted and weighed once it is trained.

fit_systems(model, sessions, ["train"])             # to each session's training trials
choose_shares(model, sessions, settings)            # by its validation trials
fit_systems(model, sessions, ["train", "val"])     # anew, once nothing is left to choose
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from ibl_mtm.errors import UserError
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.dynamics.system import LinearDynamics
from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import SCHEMES, Mask, Scheme, draw_mask, mask_last_bins
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.with_dynamics import average
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.objective.draw_tasks import SessionRows, trial_keys
from ibl_mtm.training.objective.schemes import possible_schemes
from ibl_mtm.training.objective.unit_scores import add_to, mean_over_units, new_totals
from ibl_mtm.training.settings import RunSettings

__all__ = ["choose_shares", "fit_systems"]

#: Shares of the dynamical system in the log rates that are tried, and the one without validation.
#: What is chosen is drawn to that, by as much as so many seconds of validation trials would: a few
#: seconds choose at random (on session 01 with 2.4, 0.31 bits/spike where 0.34 can be had),
#: and systems that are fitted to validation trials too are better than those that it is chosen by.
USUAL_SHARE = 0.75
USUAL_SECONDS = 32.0
SHARES = np.linspace(0, 1, 11)
#: Validation masks are drawn at "steps" that no training step has, nor a validation.
SHARE_STEP = -1_000_000
_BATCH = 32


def fit_systems(
    model: MtM,
    sessions: Sequence[Session],
    splits: Sequence[str],
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Fit a linear dynamical system to the trials of each session that are in these splits.

    Raises
    ------
    UserError
        If one cannot be fitted.
    """
    K = model.settings.dynamics
    if not K:
        return
    named = " and ".join(splits)
    all_rows = _rows(model, sessions)

    def fit(number: int) -> LinearDynamics:
        session = sessions[number]
        of = f"{number + 1} of {len(sessions)}"
        say(f"linear dynamics of the {named} trials, session {of}: {session.eid}")
        counts = torch.from_numpy(np.concatenate([session.read(split) for split in splits]))
        times = None
        if model.settings.drift:
            trials = np.concatenate([session.trials_in(split) for split in splits])
            times = torch.from_numpy(session.start[trials])
        try:
            with torch.no_grad():
                return fit_dynamics(counts, K, times=times)
        except ArithmeticError as error:
            raise UserError(
                f"no linear dynamics fit session {session.eid} ({error}); "
                "train without them: model.dynamics=0"
            ) from None

    # Many small steps: sessions side by side gain more than threads within one.
    threads = torch.get_num_threads()
    workers = min(threads, len(sessions))
    torch.set_num_threads(max(1, threads // workers))
    try:
        with ThreadPoolExecutor(workers) as pool:
            for rows, system in zip(all_rows, pool.map(fit, range(len(sessions))), strict=True):
                model.start_dynamics(rows.units, rows.session, system)
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def choose_shares(model: MtM, sessions: Sequence[Session], settings: RunSettings) -> None:
    """Choose how log rates are averaged, for each of the schemes that activity is scored under.

    The share with the best mean over units on the validation trials, drawn to `USUAL_SHARE` where
    these are few.
    """
    if not model.settings.dynamics:
        return
    model.eval()
    model.dynamics_share.fill_(USUAL_SHARE)
    totals: dict[Scheme, Tensor] = {}
    seconds: dict[Scheme, float] = {}
    form = model.scope.trial_format
    for session, rows in zip(sessions, _rows(model, sessions), strict=True):
        trials = session.trials_in("val")
        if not len(trials):
            continue
        counts = torch.from_numpy(session.read("val"))
        times = torch.from_numpy(session.start[trials])
        for scheme, mask in _masks(session.trial[trials], rows, counts.shape[1], settings):
            if scheme not in totals:
                empty = new_totals(len(model.scope.units))
                totals[scheme] = empty.repeat(len(SHARES), 1, 1)
            own_seconds = len(trials) * form.n_time * form.bin_size
            seconds[scheme] = seconds.get(scheme, 0.0) + own_seconds
            for some in torch.arange(len(trials)).split(_BATCH):
                part = mask[some] if len(mask.hidden) > 1 else mask
                group = Group(
                    counts[some],
                    part.hidden,
                    rows.units,
                    rows.session,
                    scheme,
                    causal=model.is_causal(scheme),
                    region=part.region,
                    times=times[some],
                )
                (own,) = model([group])
                system = model.dynamics_of(rows.units, rows.session)
                posterior = model.infer_dynamics(group)
                other = system.log_rates(posterior)
                null = model.null_log_rate[rows.units]
                for share, table in zip(SHARES, totals[scheme], strict=True):
                    log_rate = average(own, other, posterior.gain, float(share))
                    add_to(table, rows.units, log_rate, group.counts, part.target, null)
    for scheme, tables in totals.items():
        best = SHARES[int(torch.stack([mean_over_units(table) for table in tables]).argmax())]
        said = seconds[scheme] * best + USUAL_SECONDS * USUAL_SHARE
        share = float(said / (seconds[scheme] + USUAL_SECONDS))
        model.dynamics_share[SCHEMES.index(scheme)] = share


def _masks(
    trial: np.ndarray, rows: SessionRows, n_time: int, settings: RunSettings
) -> Iterator[tuple[Scheme, Mask]]:
    """What each kind of activity task hides, of validation trials."""
    key = trial_keys(settings.seed, SHARE_STEP, rows.session, trial)
    tasks: tuple[Scheme, ...] = ("neuron", "intra_region", "inter_region")
    for scheme in possible_schemes(tasks, rows.regions):
        yield scheme, draw_mask(scheme, key, n_time, rows.regions, settings.masks.ratios)
    yield "causal", mask_last_bins(len(trial), n_time)


def _rows(model: MtM, sessions: Sequence[Session]) -> list[SessionRows]:
    return SessionRows.of(sessions, model.scope)
