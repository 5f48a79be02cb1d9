"""The last fit of linear dynamics for TS2: to train and val, once val has chosen their share."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ibl_mtm.benchmark.data import BenchmarkData
from ibl_mtm.benchmark.predict import adaptation
from ibl_mtm.benchmark.predict.adaptation import WINDOWS, refit_dynamics, windows_to_adapt
from ibl_mtm.benchmark.predict.neural import has_dynamics
from ibl_mtm.benchmark.tasks import TASKS
from ibl_mtm.brainsets.recording import Recording
from ibl_mtm.errors import SessionError
from ibl_mtm.model.dynamics.fit import fit_dynamics
from ibl_mtm.model.dynamics.system import LinearDynamics
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.training.settings import read_run_settings


@pytest.fixture(scope="module")
def data(wide_map: Path) -> BenchmarkData:
    return BenchmarkData(wide_map)


def make_model(recording: Recording, drift: bool = True) -> MtM:
    small = ["width=16", "mlp=16", "heads=2", "dynamics=3", f"drift={str(drift).lower()}"]
    settings = read_run_settings("benchmark", [f"model.{part}" for part in small]).model
    units = tuple(recording.unit_ids[::-1].tolist())  # rows in another order than the file's
    return MtM(settings, Scope(units, (recording.eid,), (), WINDOWS, ("neuron", "causal"))).eval()


@pytest.mark.parametrize("drift", [True, False])
def test_dynamics_are_fitted_anew_to_train_and_val_in_a_copy(
    data: BenchmarkData, drift: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[torch.Tensor, int, torch.Tensor | None]] = []

    def fit(counts: torch.Tensor, K: int, *, times: torch.Tensor | None) -> LinearDynamics:
        seen.append((counts, K, times))
        return fit_dynamics(counts, K, times=times, iterations=1)

    monkeypatch.setattr(adaptation, "fit_dynamics", fit)
    with data.open("ts2", data.recordings[0]) as recording:
        eid, units = recording.eid, recording.unit_ids
        model = make_model(recording, drift)
        before = {name: table.clone() for name, table in model.state_dict().items()}
        kept = tmp_path / "a" / "dynamics.safetensors"
        found = refit_dynamics(recording, kept, model)
        starts = [windows_to_adapt(recording, "ts2", split) for split in ("train", "val")]
        starts = np.sort(np.concatenate(starts))
        spikes = recording.spikes()
        some = spikes.times[spikes.units == 2]
        expected = [((some >= start) & (some < start + 1)).sum() for start in starts]
    ((counts, K, times),) = seen
    assert (K, counts.shape) == (3, (len(starts), 50, len(units)))
    np.testing.assert_array_equal(counts[..., 2].sum(1), expected)
    assert (times is not None) == drift
    if times is not None:
        np.testing.assert_array_equal(times, starts)
    # Rows of the model are in another order than the file's units.
    own = fit(*seen[0][:2], times=times).offset
    rows = model.scope.rows_of(units)
    torch.testing.assert_close(found.dynamics_of(rows, 0).offset, own)
    assert not torch.allclose(found.dynamics_offset, own)
    for name, table in model.state_dict().items():
        torch.testing.assert_close(table, before[name], rtol=0, atol=0)
        if not name.startswith("dynamics_") or name == "dynamics_share":
            torch.testing.assert_close(found.state_dict()[name], table, rtol=0, atol=0)
    # Another seed's model takes what is kept, and keeps all else of its own, its share as well.
    monkeypatch.setattr(adaptation, "fit_dynamics", _refuse)
    other = make_model(recording, drift)
    other.dynamics_share.fill_(0.3)
    other.read_in.data.add_(1.0)
    again = refit_dynamics(recording, kept, other).state_dict()
    for name, table in found.state_dict().items():
        own = other.state_dict()[name]
        mine = own if name == "dynamics_share" or not name.startswith("dynamics_") else table
        torch.testing.assert_close(again[name], mine, rtol=0, atol=0)
    kept.write_bytes(kept.read_bytes()[:-9])
    with pytest.raises(SessionError, match=r"dynamics\.safetensors is damaged; delete it"):
        refit_dynamics(recording, kept, other)
    with (
        data.open("ts2", eid) as recording,
        pytest.raises(SessionError, match=r"no linear dynamics fit it \(no\).*model\.dynamics=0"),
    ):
        refit_dynamics(recording, tmp_path / "other", model)


def _refuse(*given: object, **more: object) -> None:
    raise ArithmeticError("no")


@pytest.mark.parametrize(("task", "scheme"), [("ts2-co_smoothing", 0), ("ts2-forecasting", 1)])
def test_a_task_has_dynamics_where_its_own_prompt_has_a_share(
    data: BenchmarkData, task: str, scheme: int
) -> None:
    with data.open("ts2", data.recordings[0]) as recording:
        model = make_model(recording)
    model.dynamics_share.zero_()
    assert not has_dynamics(model, TASKS[task])
    model.dynamics_share[scheme] = 0.1
    assert has_dynamics(model, TASKS[task])
