"""A task that is not the IBL's, from a folder in ONE's layout into the cache and out of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ibl_mtm
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.ingest.run import ingest

TRIALS = "_ibl_trials.table.pqt"
OWN = {
    "align": {"event": "cue_times", "window": [-0.5, 1.0], "bin": 0.02},
    "trials": {"keep": ["frequency", "outcome"]},
    "signals": {"pupil": "pupil.diameter", "breath": "breath.flow"},
    "conditions": ["outcome"],
    "decode": {"go": "class", "pupil": "trace"},
}


def own_task(alf: Path) -> None:
    """Leave spikes, and trials of a tone that asks to lick or not; no camera, wheel or licks."""
    (alf / "probe00").rename(alf / "imec-0")
    cue = pd.read_parquet(alf / TRIALS)["stimOn_times"].to_numpy()
    for name in ("_ibl_trials.*", "_ibl_wheel*", "*Camera*", "licks*"):
        for file in alf.glob(name):
            file.unlink()
    n = len(cue)
    table = pd.DataFrame(
        {
            "cue_times": np.where(np.arange(n) == 3, np.nan, cue),
            "intervals_0": cue - 0.1,
            "intervals_1": cue + 1.1,
            "frequency": np.where(np.arange(n) % 5 == 0, np.nan, 440.0 * (1 + np.arange(n) % 3)),
            "outcome": np.array(["hit", "miss", None], dtype=object)[np.arange(n) % 3],
            "go": np.arange(n) % 2 == 0,
            "useless": cue,
        }
    )
    table.to_parquet(alf / TRIALS)
    times = np.arange(0, cue[-1] + 10, 0.05)  # a camera of 20 Hz: slower than the bins
    times = times[(times < cue[6]) | (times > cue[6] + 0.4)]
    np.save(alf / "pupil.times.npy", times)
    np.save(alf / "pupil.diameter.npy", np.sin(times))


@pytest.fixture(scope="module")
def own(experiment: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    root = tmp_path_factory.mktemp("own") / "data"
    eid = experiment.copy_session(root, 1, spoil=own_task)
    dataset = Dataset.model_validate({"source": {"kind": "local", "path": root}, **OWN})
    report = ingest(dataset, "mine", root.parent / "c.zarr", workers=1)
    assert report.failed == {}
    return ibl_mtm.open_cache(report.cache)[eid], report


def test_what_the_task_has_is_in_the_cache(own: tuple[Any, Any], experiment: Any) -> None:
    ds, report = own
    assert check(report.cache) == {}
    assert set(ds.probe.values) == {"imec-0"}
    table = pd.read_parquet(next(report.cache.parent.rglob(TRIALS))).iloc[ds.trial.values]
    assert 3 not in ds.trial.values
    assert np.array_equal(ds.window_start.values, table["cue_times"] - 0.5)
    assert np.array_equal(ds.frequency.values, table["frequency"], equal_nan=True)
    assert list(ds.outcome.values) == list(table["outcome"].fillna(""))
    assert ds.go.dtype == bool
    assert list(ds.go.values) == list(table["go"])
    lacking = {"choice", "contrast", "feedback", "stimOn_times", "useless", "lick_count", "breath"}
    assert lacking.isdisjoint(ds.variables)
    assert ds.included.values.all()
    assert ds.attrs["kept"] == ["frequency", "outcome", "go"]
    assert ds.attrs["signals"] == ["pupil"]
    assert ds.attrs["conditions"] == ["outcome"]
    assert json.loads(ds.attrs["decode"]) == {"go": "class", "pupil": "trace"}
    assert {"frequency", "outcome", "go"} <= set(ds.coords)


def test_a_session_is_still_what_netcdf_has(own: tuple[Any, Any], tmp_path: Path) -> None:
    ds = own[0].load()
    assert not any(isinstance(value, bool | dict) for value in ds.attrs.values())
    lists = [name for name, value in ds.attrs.items() if isinstance(value, list)]
    ds.drop_attrs().assign_attrs({k: v for k, v in ds.attrs.items() if k not in lists}).to_netcdf(
        tmp_path / "x.nc", engine="scipy"
    )


def test_each_omission_is_told_once(own: tuple[Any, Any]) -> None:
    notes = own[0].attrs["notes"]
    assert len(notes) == len(set(notes))
    for said in (
        "trials: rules of 'included' left out, as columns are missing: reaction time (stimOn_times,"
        " firstMovement_times); length (goCue_times, feedback_times); choice (choice); block (",
        "signals.breath: breath.flow: missing",
        "wheel.position: missing",
        "licks.times: missing",
    ):
        assert sum(note.count(said) for note in notes) == 1
    assert not any("choice" in note for note in notes if not note.startswith("trials: rules"))


def test_a_trace_on_its_own_clock(own: tuple[Any, Any]) -> None:
    ds, _ = own
    centre = ds.window_start.values[:, None] + (np.arange(75) + 0.5) * 0.02
    pupil = ds.pupil.values
    gap = np.isnan(pupil)
    assert 15 <= gap.sum() <= 25  # 0.4 s of one trial, and up to a sample
    assert np.allclose(pupil[~gap], np.sin(centre)[~gap], atol=1e-3)


def test_own_columns_are_asked_for_like_the_ibls(own: tuple[Any, Any]) -> None:
    ds, _ = own
    by_outcome = ibl_mtm.psth(ds, by="outcome")
    assert by_outcome.outcome.values.tolist() == ["hit", "miss"]  # and none without
    counts = ds.spikes.values[ds.outcome.values == "miss"]
    assert np.allclose(by_outcome.sel(outcome="miss"), counts.mean(0) / 0.02)
    assert ibl_mtm.psth(ds, by="go").go.values.tolist() == [False, True]
    assert ibl_mtm.psth(ds, by="frequency").sizes["frequency"] == 3
    assert ds.sel(trial=ds.outcome == "hit").sizes["trial"] == (ds.outcome.values == "hit").sum()


def test_all_columns_but_those_that_cannot_be(experiment: Any, tmp_path: Path) -> None:
    def odd(alf: Path) -> None:
        own_task(alf)
        table = pd.read_parquet(alf / TRIALS)
        table.assign(contrast=1.0, when=pd.Timestamp("2024-01-01")).to_parquet(alf / TRIALS)

    eid = experiment.copy_session(tmp_path / "data", 1, spoil=odd)
    settings = {"align": OWN["align"], "trials": {"keep": "all"}}
    source = {"kind": "local", "path": tmp_path / "data"}
    dataset = Dataset.model_validate({"source": source, **settings})
    report = ingest(dataset, "mine", tmp_path / "c.zarr", workers=1)
    ds = ibl_mtm.open_cache(report.cache)[eid]
    assert {"cue_times", "frequency", "outcome", "go", "useless", "intervals_0"} <= {
        *ds.attrs["kept"]
    }
    told = [note for note in ds.attrs["notes"] if "not kept" in note]
    assert [note.split(":")[1].strip() for note in told] == ["contrast", "when"]
    assert "conditions" not in ds.attrs


def test_definitions_of_before_are_as_they_were() -> None:
    """Sessions of caches that were made without a task of their own stay what they are."""
    eid = "00000000-0000-4000-8000-000000000000"
    before = Dataset.model_validate({"source": {"kind": "simulated"}})
    assert set(before.definition(eid)) == {"source", "align", "trials", "split", "pids", "role"}
    assert set(before.definition(eid)["trials"]) == {"min_reaction", "max_reaction", "max_length"}
    mine = Dataset.model_validate({"source": {"kind": "local", "path": "x"}, **OWN})
    assert mine.definition(eid)["trials"]["keep"] == ["frequency", "outcome"]
    for key in ("signals", "conditions", "decode"):
        other = Dataset.model_validate(
            {"source": {"kind": "local", "path": "x"}, **(OWN | {key: type(OWN[key])()})}
        )
        assert other.definition_hash(eid) != mine.definition_hash(eid)


@pytest.mark.parametrize(
    "wrong",
    [
        {"decode": {"go now": "class"}},
        {"decode": {"go": "word"}},
        {"signals": {"1st": "a.b"}},
        {"signals": {"pupil": "pupil.diameter"}},
    ],
)
def test_names_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(
        ValueError, match=r"cannot name a variable|'class' or 'trace'|'signals' are read by"
    ):
        Dataset.model_validate({"source": {"kind": "simulated"}, **wrong})


@pytest.mark.slow
def test_from_a_file_to_a_report_each_omission_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    """Two sessions of a task without choice, block, camera and wheel, by the commands."""
    monkeypatch.chdir(tmp_path)
    for seed, subject in enumerate(("m1", "m2")):
        rng = np.random.default_rng(seed)
        session = Path("rig") / subject / "2024-05-06"
        (session / "imec0").mkdir(parents=True)
        cue = np.cumsum(rng.uniform(1.5, 2.5, 60 + 9 * seed))
        times, clusters = rng.uniform(0, cue[-1] + 5, 9000), rng.integers(0, 10 + seed, 9000)
        order = np.argsort(times)
        np.save(session / "imec0" / "spike_times.npy", (times[order] * 30000).astype(np.int64))
        np.save(session / "imec0" / "spike_clusters.npy", clusters[order])
        (session / "imec0" / "params.py").write_text("sample_rate = 30000.\n")
        tone = np.array([4, 8, 16])[np.arange(len(cue)) % 3]
        pd.DataFrame({"cue": cue, "tone": tone}).to_csv(session / "trials.csv", index=False)
    Path("data_catalog.yaml").write_text(
        "datasets:\n  rig:\n    source: {kind: phy, path: rig}\n    conditions: [tone]\n"
        "    align: {event: cue, window: [-0.2, 0.4], bin: 0.02}\n    decode: {tone: class}\n"
    )
    tiny = ("steps=2", "validate_every=2", "batch_size=8", "model.width=16", "model.layers=1",
            "model.heads=2", "model.mlp=16", "model.dynamics=0")  # fmt: skip
    code, out, _ = run("ingest", "rig", "--cache", "rig.zarr", "--workers", 1)
    assert code == 0
    for omission in ("choice (choice)", "reaction time", "probe imec0: no cluster_group.tsv"):
        assert out.count(omission) == 1, omission
    for ds in ibl_mtm.open_cache("rig.zarr").values():
        assert {"choice", "wheel_velocity", "whisker_motion_energy"}.isdisjoint(ds.variables)
        assert len(ds.attrs["notes"]) == len(set(ds.attrs["notes"])) == 2
    assert run("train", "mtm_small", "--cache", "rig.zarr", "--run", "runs/rig", *tiny)[0] == 0
    code, out, _ = run("eval", "runs/rig")
    assert code == 0
    assert "accuracy of 3 classes" in out
    for omission in ("skipped choice of 2 sessions", "skipped whisker_motion_energy of 2 sessions"):
        assert out.count(omission) == 1, omission
    assert run("report", "runs/rig", "--out", "report.html")[0] == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.count("the session has no choice") == 1
    assert page.count("the session has no whisker_motion_energy") == 1
    assert "accuracy, 3 classes" in page
