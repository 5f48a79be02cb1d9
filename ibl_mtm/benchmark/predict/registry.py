"""Which baselines there are, and what each of them predicts.

BASELINES["trailing_mean"].tasks                    # ("ts2-forecasting",)
"""

from dataclasses import dataclass

from ibl_mtm.benchmark.tasks import TASKS

__all__ = ["BASELINES", "Baseline"]

_ACTIVITY = ("ts2-co_smoothing", "ts2-forecasting")
_TRACES = tuple(name for name, task in TASKS.items() if task.suite == "ts1" and not task.is_class)


@dataclass(frozen=True)
class Baseline:
    """What predicts without a network: what to call it, and the names of its tasks."""

    title: str
    tasks: tuple[str, ...]

    @property
    def suites(self) -> set[str]:
        """The suites that its tasks are of."""
        return {TASKS[name].suite for name in self.tasks}


BASELINES = {
    "linear": Baseline("linear and Poisson regression on spikes", tuple(TASKS)),
    "reduced_rank": Baseline("regression of low rank", (*_TRACES, "ts2-co_smoothing")),
    "poisson_lds": Baseline("Poisson linear dynamical system", _ACTIVITY),
    "poisson_lds_drift": Baseline("the same with drifting units", _ACTIVITY),
    "trailing_mean": Baseline("mean of the last bins that are seen", ("ts2-forecasting",)),
    "population_coupling": Baseline("coupling to the population rate", ("ts2-co_smoothing",)),
    "isi_histogram": Baseline("histogram of interspike intervals", ("ts3-unit_cosmos",)),
}
"""By the name that `--baseline` takes."""
