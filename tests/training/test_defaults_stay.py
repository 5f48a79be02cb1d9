"""Settings that say nothing of a choice train as they did before there was one.

`golden_defaults.json` was written by the version before the paper's choices became settings
(python tests/training/test_defaults_stay.py, in a checkout of it).
"""

import json
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))

from training_runs import make_cache, tiny_settings

from ibl_mtm.cache.cache import open_cache
from ibl_mtm.training.checkpoint.build import build_model
from ibl_mtm.training.checkpoint.pretrained import load_model
from ibl_mtm.training.data.describe import describe_sessions
from ibl_mtm.training.objective.draw_tasks import SessionRows, draw_tasks
from ibl_mtm.training.run import train

GOLDEN = Path(__file__).with_name("golden_defaults.json")
_PLAIN = {"width": 16, "layers": 2, "heads": 2, "mlp": 16, "stitch_width": 12}
#: Dropout of every kind, prompts or none, all that `mtm_small` has, attention with dropout.
CASES = {
    "small": {},
    "plain": {"model": _PLAIN, "masks": {}, "average": 0.0},
    "unprompted": {
        "model": _PLAIN | {"prompt": False, "bias": "zero"},
        "masks": {},
        "average": 0.0,
        "optimizer": {"decay_biases": True, "clip": None, "learning_rate": 0.01},
    },
}


def found(folder: Path, name: str) -> dict:
    """Sums of every weight at the start and at the end, and of masks, in one case."""
    settings = tiny_settings(**CASES[name])
    cache = open_cache(folder / "cache.zarr")
    sessions = describe_sessions(cache, settings.data)
    torch.manual_seed(settings.seed)
    from ibl_mtm.sessions.trial_format import trial_format

    model = build_model(settings, sessions, trial_format(cache[sessions[0].eid]))
    masked = []
    for rows, session in zip(SessionRows.of(sessions, model.scope), sessions, strict=True):
        counts = torch.from_numpy(session.read("train"))
        trial = session.trial[session.trials_in("train")]
        for step in range(6):
            for task in draw_tasks(rows, counts, trial, settings.seed, step, settings.masks):
                shape = task.group.counts.shape
                place = torch.arange(shape.numel()).view(shape) % 1009
                masked += [int((place * entries.expand(shape)).sum())
                           for entries in (task.group.hidden, task.target)]  # fmt: skip
    start = model.state_dict()
    report = train(settings, cache, folder / name, progress=False)
    end = load_model(folder / name).state_dict()
    return {
        "masked": masked,
        "start": {key: [float(x.double().sum()), float(x.double().norm())]
                  for key, x in start.items()},
        "end": {key: [float(x.double().sum()), float(x.double().norm())]
                for key, x in end.items()},
        "val": report.val,
    }  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("golden")
    make_cache(path / "cache.zarr")
    return path


@pytest.mark.parametrize("name", CASES)
def test_a_default_run_is_as_before(folder, name):
    now, before = found(folder, name), json.loads(GOLDEN.read_text())[name]
    assert now["masked"] == before["masked"]
    for stage in ("start", "end"):
        assert now[stage].keys() == before[stage].keys()
        for key, sums in before[stage].items():
            if not key.endswith("qkv.bias") or stage == "start":  # keys: rounding, made large
                assert now[stage][key] == pytest.approx(sums, rel=1e-4, abs=1e-4), (stage, key)
    assert now["val"] == pytest.approx(before["val"], rel=1e-3, abs=1e-4)


if __name__ == "__main__":
    with TemporaryDirectory() as there:
        make_cache(Path(there) / "cache.zarr")
        golden = {name: found(Path(there), name) for name in CASES}
    Path(sys.argv[1]).write_text(json.dumps(golden, indent=1))
