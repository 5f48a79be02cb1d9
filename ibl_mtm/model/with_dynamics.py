"""The part of a model that is linear: each session's dynamical system beside the transformer.

model.start_dynamics(units, session, system)            # as `fit_dynamics` found it
log_rate = model.blend(log_rate, group)                 # the average of both
"""

import torch
from torch import Tensor, nn

from ibl_mtm.model.dynamics.drift import KNOTS, Drift
from ibl_mtm.model.dynamics.posterior import Posterior
from ibl_mtm.model.dynamics.system import HIGHEST, LinearDynamics
from ibl_mtm.model.group import Group
from ibl_mtm.model.masking import BEHAVIOUR_SCHEMES, SCHEMES, Scheme
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings

__all__ = ["WithDynamics", "average", "hides_the_end"]


class WithDynamics(nn.Module):
    """A model that keeps a linear dynamical system for each of its sessions."""

    settings: ModelSettings
    scope: Scope

    #: Rows of the same kinds that are fitted once, and no gradient reaches.
    DYNAMICS_UNIT_TABLES = ("dynamics_loading", "dynamics_offset", "dynamics_highest")
    DYNAMICS_SESSION_TABLES = (
        "dynamics_transition",
        "dynamics_noise",
        "dynamics_first_noise",
        "dynamics_course",
    )
    #: Of dynamics whose units' gains drift over a session.
    DRIFT_UNIT_TABLES = ("dynamics_gain", "dynamics_gain_variance", "dynamics_gain_spread")
    DRIFT_SESSION_TABLES = ("dynamics_span",)

    dynamics_share: Tensor
    dynamics_span: Tensor

    def _make_dynamics(self, K: int) -> None:
        n_units, n_sessions = len(self.scope.units), len(self.scope.sessions)
        n_time, identity = self.scope.trial_format.n_time, torch.eye(K).repeat(n_sessions, 1, 1)
        tables = {
            "dynamics_loading": torch.zeros(n_units, K),
            "dynamics_offset": torch.zeros(n_units),
            "dynamics_highest": torch.full((n_units,), HIGHEST),
            "dynamics_transition": torch.zeros(n_sessions, K, K),
            "dynamics_noise": identity.clone(),
            "dynamics_first_noise": identity.clone(),
            "dynamics_course": torch.zeros(n_sessions, n_time, K),
            # Of the log rates under each scheme's prompt; none until they are fitted.
            "dynamics_share": torch.zeros(len(SCHEMES)),
        }
        if self.settings.drift:
            tables |= {
                "dynamics_gain": torch.zeros(n_units, KNOTS),
                "dynamics_gain_variance": torch.zeros(n_units, KNOTS),
                "dynamics_gain_spread": torch.zeros(n_units),
                "dynamics_span": torch.zeros(n_sessions, 2, dtype=torch.float64),
            }
        for name, table in tables.items():
            self.register_buffer(name, table)
        # PyTorch gives it no types.
        self.register_load_state_dict_pre_hook(_without_highest)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def start_dynamics(self, units: Tensor, session: int, system: LinearDynamics) -> None:
        """Keep a session's linear dynamical system (of `settings.dynamics` components)."""
        for name in self.DYNAMICS_UNIT_TABLES:
            found = getattr(system, name.removeprefix("dynamics_"))
            getattr(self, name)[units] = HIGHEST if found is None else found
        for name in self.DYNAMICS_SESSION_TABLES:
            getattr(self, name)[session] = getattr(system, name.removeprefix("dynamics_"))
        if (drift := system.drift) is not None:
            drifts = drift.mean, drift.variance, drift.spread
            for name, table in zip(self.DRIFT_UNIT_TABLES, drifts, strict=True):
                getattr(self, name)[units] = table
            self.dynamics_span[session] = drift.span

    def dynamics_of(self, units: Tensor, session: int) -> LinearDynamics:
        """The linear dynamical system of a session, for these rows of units."""
        tables = {name: getattr(self, name)[units] for name in self.DYNAMICS_UNIT_TABLES}
        tables |= {name: getattr(self, name)[session] for name in self.DYNAMICS_SESSION_TABLES}
        drift = None
        if self.settings.drift:
            mean, variance, spread = (getattr(self, n)[units] for n in self.DRIFT_UNIT_TABLES)
            drift = Drift(mean, variance, spread, self.dynamics_span[session])
        parts = {n.removeprefix("dynamics_"): t for n, t in tables.items()}
        return LinearDynamics(**parts, drift=drift)

    def share_of(self, scheme: Scheme) -> float:
        """Share of the dynamical systems in log rates under a scheme's prompt; 0 without any.

        They see no behaviour, so they have none in what it decides.
        """
        if scheme in BEHAVIOUR_SCHEMES:
            return 0.0
        return float(self.dynamics_share[SCHEMES.index(scheme)]) if self.settings.dynamics else 0.0

    def blend(self, log_rate: Tensor, group: Group, known: Posterior | None = None) -> Tensor:
        """Average the transformer's log rates with those of the session's dynamical system.

        Both are asked to predict the same from the same visible entries. Under causal attention
        the system takes part only where all that is hidden comes last, as forward prediction asks:
        otherwise it would see later bins than the one that it predicts.

        Parameters
        ----------
        log_rate : Tensor (B, T, M)
            The transformer's, of `group`; or those of its last bins alone.
        group
            What was asked.
        known
            What `infer_dynamics` would find, where that is known already.
        """
        share = self.share_of(group.scheme)
        if not share or (group.causal and not hides_the_end(group.hidden)):
            return log_rate
        system = self.dynamics_of(group.units, group.session)
        posterior = (known or self.infer_dynamics(group)).last(log_rate.shape[1])
        other = system.log_rates(posterior, group.outputs)
        return average(log_rate, other, posterior.gain_of(group.outputs), share)

    def infer_dynamics(self, group: Group) -> Posterior:
        """Posterior of the components of a session's dynamical system, for B trials."""
        system = self.dynamics_of(group.units, group.session)
        gains = system.gains(group.times, len(group.counts))
        return system.infer(group.counts, ~group.hidden, gains=gains)


def _without_highest(model: nn.Module, weights: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Models of earlier versions bound no rates of their dynamical systems."""
    weights.setdefault(f"{prefix}dynamics_highest", model.get_buffer("dynamics_highest"))


def hides_the_end(hidden: Tensor) -> bool:
    """Whether in each trial whole time steps are hidden, the last ones: (B, T or 1, N or 1)."""
    if hidden.shape[2] != 1 or hidden.shape[1] == 1:
        return False
    steps = hidden[:, :, 0]
    return bool(steps[:, -1].all() and (steps[:, 1:] >= steps[:, :-1]).all())


def average(own: Tensor, other: Tensor, gain: Tensor | None, share: float | Tensor) -> Tensor:
    """Log rates (..., T, M) of the transformer and of the dynamical system, averaged.

    Gains (..., M) are added to the transformer's, which does not know what time it is.
    """
    return torch.lerp(own if gain is None else own + gain[..., None, :], other, share)
