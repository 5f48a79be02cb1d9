"""What an import scores a published model on, and which trials it takes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from plain_paper import PlainModel, save_plain
from synthetic import make_session

from ibl_mtm.errors import UserError
from ibl_mtm.sessions.view import describe_session
from ibl_mtm.training.objective.draw_tasks import trial_keys
from ibl_mtm.training.published import import_run
from ibl_mtm.training.published.convert import read_published
from ibl_mtm.training.settings import read_run_settings

SIZES = {"width": 8, "layers": 1, "heads": 2, "mlp": 12, "stitch": 6}


class Constant:
    """A model that predicts log rates 0, 0.5, 1, … of its units, whatever it is shown."""

    def __init__(self, null, schemes):
        self.null_log_rate = torch.tensor(null)
        self.scope = SimpleNamespace(
            units=tuple(f"u{i}" for i in range(len(null))),
            sessions=("e",), regions=(), schemes=schemes,
        )  # fmt: skip

    def __call__(self, groups):
        (group,) = groups
        return [0.5 * torch.arange(group.counts.shape[2]).expand(group.counts.shape)]


def session_of(n_units, n_val, n_test):
    """Counts are the number of their trial; validation trials stand behind those of the test."""
    split = np.repeat(["test", "val"], [n_test, n_val])
    numbers = np.arange(len(split)) + 100
    return SimpleNamespace(
        eid="e",
        units=[f"u{i}" for i in range(n_units)],
        region=[""] * n_units,
        behaviour=None,
        trial=numbers,
        trials_in=lambda of: np.flatnonzero(split == of),
        read=lambda of: np.tile(numbers[split == of, None, None], (1, 4, n_units)),
    )


@pytest.fixture
def asked(monkeypatch):
    """Counts, scheme and key of what was asked."""
    asked, make = [], import_run.make_task
    monkeypatch.setattr(
        import_run, "make_task", lambda *given: asked.append(given[1:4]) or make(*given)
    )
    return asked


@pytest.mark.parametrize(
    ("n_val", "chosen"), [(46, range(0, 46, 3)), (16, range(16)), (5, range(5)), (1, [0])]
)
def test_sixteen_validation_trials_at_most_are_scored_evenly_over_the_session(asked, n_val, chosen):
    settings, session = read_run_settings("paper"), session_of(3, n_val, n_test=2)
    import_run._score(Constant([-1.0, 0.0, 1.0], ("causal", "neuron")), session, settings)
    ((counts, scheme, key),) = asked
    numbers = 102 + np.array(chosen)
    assert counts[:, 0, 0].tolist() == numbers.tolist()
    assert torch.equal(key, trial_keys(settings.seed, -1, 0, numbers))
    assert scheme == "neuron"


def test_a_model_of_other_schemes_is_asked_by_its_first(asked):
    model = Constant([-1.0, 0.0, 1.0], ("temporal", "random"))
    import_run._score(model, session_of(3, 4, 1), read_run_settings("paper"))
    assert asked[0][1] == "temporal"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("null", "alike"),
    [
        ([-1.0, 0.0, 1.0], 1),
        ([1.0, 0.0, -1.0], -1),
        ([0.0, 3.0, 0.0], 0),
        ([1.0, 2.0], 1),
        ([2.0, 1.0], -1),
        ([2.0, 2.0], 1),  # units that are all alike say nothing
        ([2.0], 1),  # nor does a single one
    ],
)
def test_rates_are_compared_with_the_means_of_units(null, alike):
    settings, session = read_run_settings("paper"), session_of(len(null), 4, 1)
    _, found = import_run._score(Constant(null, ("neuron",)), session, settings)
    assert found == pytest.approx(alike, abs=1e-6)


def test_trials_of_another_format_are_refused_by_the_name_of_their_session(tmp_path):
    """Than the model's, or than those of the first session."""
    one, two = (make_session(n_units=5, n_trials=20, n_bins=10, seed=seed) for seed in (1, 2))
    other = two.assign_attrs(alignment="feedback_times")
    settings = read_run_settings("paper", ["data.split=null"])
    for sessions, n_time, at in (((one, two), 9, 0), ((one, other), 10, 1)):
        cache = {ds.attrs["eid"]: ds for ds in sessions}
        units = {eid: ds.unit.values.tolist() for eid, ds in cache.items()}
        model = PlainModel(dict.fromkeys(cache, 5), n_time=n_time, **SIZES)
        published = read_published(save_plain(model, tmp_path / "model.pt"))
        used = [describe_session(ds, settings.data) for ds in sessions]
        told = (
            f"session {list(cache)[at]} has trials of another format, .*n_time=10.*n_time={n_time}"
        )
        with pytest.raises(UserError, match=told):
            import_run._model_of(published, units, used, settings, cache)
