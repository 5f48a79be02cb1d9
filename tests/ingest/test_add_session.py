"""A session from arrays: what comes out is what went in, and what cannot be is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ibl_mtm
from ibl_mtm.cache.check import check
from ibl_mtm.config.dataset import Dataset
from ibl_mtm.errors import SessionError, UserError
from ibl_mtm.ingest.run import ingest

ALIGN = {"event": "cue", "window": [-0.2, 0.8], "bin": 0.02}
WHO = {"subject": "m1", "date": "2024-05-06"}


def arrays(seed: int = 0) -> dict[str, Any]:
    """Two probes of unequal sizes, 40 irregular trials, two traces."""
    rng = np.random.default_rng(seed)
    probes = {}
    for name, ids, n in (("imec1", [7, 3, 12, 500], 6000), ("imec0", [0, 2], 3000)):
        probes[name] = {
            "times": np.sort(rng.uniform(0.3, 200, n)),
            "clusters": rng.choice(ids[:-1] if name == "imec1" else ids, n).astype(np.uint32),
            "units": pd.DataFrame(
                {
                    "cluster_id": ids,
                    "region": ["CA1", "my barrel", None, 382][: len(ids)],
                    "label": ["good", "mua", None, "Good"][: len(ids)],
                    "depth": np.arange(len(ids)) * 100.0,
                }
            ),
        }
    cue = np.cumsum(rng.uniform(3, 5, 40))
    trials = pd.DataFrame({"cue": cue, "go": rng.random(40) < 0.5, "tone": rng.choice([4, 8], 40)})
    trials.loc[5, "cue"] = np.nan
    times = np.arange(0, 210, 0.01)
    signals = {"speed": (times, np.sin(times)), "wheel_velocity": pd.Series(times, index=times)}
    return {"probes": probes, "trials": trials, "signals": signals}


def add(cache: Path, **given: Any) -> str:
    return ibl_mtm.add_session(cache, **{**arrays(), **WHO, "align": ALIGN, **given})


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("own") / "c.zarr"
    eid = add(root, settings={"decode": {"go": "class"}})
    assert check(root) == {}
    return ibl_mtm.open_cache(root)[eid]


def test_counts_are_those_of_a_plain_loop(session: Any) -> None:
    given = arrays()
    cue = given["trials"]["cue"].to_numpy()
    assert list(session.trial.values) == [t for t in range(40) if t != 5]
    assert list(session.unit.values) == [
        f"{session.attrs['eid']}:{name}:{c}"
        for name, ids in (("imec0", [0, 2]), ("imec1", [7, 3, 12, 500]))
        for c in ids
    ]
    expected = np.zeros(session.spikes.shape, int)
    for column, (probe, cluster) in enumerate(
        zip(session.probe.values, session.cluster_id.values, strict=True)
    ):
        own = given["probes"][probe]
        for time in own["times"][own["clusters"] == cluster]:
            for row, trial in enumerate(session.trial.values):
                edges = cue[trial] - 0.2 + np.arange(51) * 0.02
                if edges[0] <= time < edges[-1]:
                    expected[row, (edges <= time).sum() - 1, column] += 1
    assert np.array_equal(session.spikes.values, expected)
    assert expected.sum() > 1000
    assert expected[..., 5].sum() == 0  # a unit without spikes is a unit


def test_regions_and_labels_as_people_write_them(session: Any) -> None:
    assert list(session.region.values) == ["CA1", "my barrel", "CA1", "my barrel", "unknown", "CA1"]
    assert list(session.beryl.values) == ["CA1", "unknown", "CA1", "unknown", "unknown", "CA1"]
    assert list(session.cosmos.values) == ["HPF", "unknown", "HPF", "unknown", "unknown", "HPF"]
    assert np.array_equal(session.label.values, [1, 0, 1, 0, np.nan, 1], equal_nan=True)
    assert list(session.channel.values) == [-1] * 6
    assert np.isnan(session.x.values).all()
    told = [note for note in session.attrs["notes"] if "the Allen atlas lacks" in note]
    assert [note.split(":")[0] for note in told] == ["probe imec0", "probe imec1"]
    assert all(note.endswith("my barrel") for note in told)


def test_trials_and_traces(session: Any) -> None:
    given = arrays()
    table = given["trials"].iloc[session.trial.values]
    assert list(session.go.values) == list(table["go"])
    assert list(session.tone.values) == list(table["tone"])
    centre = session.window_start.values[:, None] + (np.arange(50) + 0.5) * 0.02
    assert np.allclose(session.speed.values, np.sin(centre), atol=1e-4)
    assert np.allclose(session.wheel_velocity.values, centre, rtol=1e-5)
    assert session.attrs["signals"] == ["speed"]
    assert json.loads(session.attrs["decode"]) == {"go": "class"}
    assert (session.attrs["subject"], session.attrs["date"]) == ("m1", "2024-05-06")


def test_licks_are_counted(tmp_path: Path) -> None:
    licks = np.array([arrays()["trials"]["cue"][2] + t for t in (0.01, 0.015, 0.3)])
    eid = add(tmp_path / "c.zarr", signals={"licks": licks})
    counts = ibl_mtm.open_cache(tmp_path / "c.zarr")[eid].sel(trial=2).lick_count.values
    assert counts.sum() == 3
    assert list(np.flatnonzero(counts)) == [10, 25]
    assert counts[10] == 2


def test_windows_without_trials(tmp_path: Path) -> None:
    eid = add(tmp_path / "c.zarr", trials=None, align={"contiguous": 2.0, "bin": 0.02})
    ds = ibl_mtm.open_cache(tmp_path / "c.zarr")[eid]
    assert ds.sizes["trial"] == 99
    assert "included" not in ds
    assert ds.speed.dims == ("trial", "time")


@pytest.mark.parametrize("kind", [np.uint16, np.uint64, np.int64])
def test_ids_of_any_size_and_kind(tmp_path: Path, kind: type) -> None:
    """Small ones, which are looked up in a table, and one that no table has room for."""
    rng = np.random.default_rng(0)
    ids = np.array([7, 0, 300, 2], dtype=np.int64)
    if kind is not np.uint16:
        ids[2] = (1 << 24) + 5
    which = rng.integers(0, 4, 5000)
    times = np.sort(rng.uniform(0, 100, 5000))
    probe = {"times": times, "clusters": ids[which].astype(kind), "units": {"cluster_id": ids}}
    align = {"event": "cue", "window": [-0.2, 0.8], "bin": 0.02}
    cue = np.arange(1.0, 99.0, 2.0)
    eid = ibl_mtm.add_session(
        tmp_path / "c.zarr",
        {"p": probe},
        pd.DataFrame({"cue": cue}),
        subject="m",
        date="2024-05-06",
        align=align,
    )
    ds = ibl_mtm.open_cache(tmp_path / "c.zarr")[eid]
    for column, unit in enumerate(ds.cluster_id.values):
        own = times[ids[which] == unit]
        expected = [np.histogram(own, t - 0.2 + np.arange(51) * 0.02)[0] for t in cue]
        assert np.array_equal(ds.spikes.values[..., column], expected)


def test_the_same_again_is_nothing_and_other_data_are_noticed(tmp_path: Path) -> None:
    cache = tmp_path / "c.zarr"
    eid = add(cache)
    made = ibl_mtm.open_cache(cache)[eid].attrs["ingested"]
    assert add(cache) == eid
    assert ibl_mtm.open_cache(cache)[eid].attrs["ingested"] == made
    for key in ("probes", "trials", "signals"):
        other = arrays()
        if key == "probes":
            other[key]["imec0"]["times"][100] += 1e-9
        elif key == "trials":
            other[key].loc[7, "go"] = ~other[key].loc[7, "go"]
        else:
            other[key]["speed"][1][0] += 1
        with pytest.raises(SessionError, match=r"by another definition \(source.digest"):
            add(cache, **other)
    replaced = add(cache, **arrays(seed=1), overwrite=True)
    assert replaced == eid
    second = add(cache, number=2)
    assert second != eid
    assert len(ibl_mtm.open_cache(cache)) == 2
    assert list(ibl_mtm.open_cache(cache).sessions.number) in ([1, 2], [2, 1])


def _probe(**change: Any) -> dict[str, Any]:
    """The probes with one array, or the table of units, of imec1 replaced."""
    probes = arrays()["probes"]
    probes["imec1"] |= {name: make(probes["imec1"][name]) for name, make in change.items()}
    return {"probes": probes}


def _units(**columns: Any) -> dict[str, Any]:
    return _probe(units=lambda table: table.assign(**columns))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (_probe(times=lambda t: t[::-1]), "probe imec1.times: not in ascending order"),
        (_probe(times=lambda t: (t * 30000).astype(int)), "int64, expected seconds; are these"),
        (_probe(times=lambda t: np.round(t * 30000)), "whole numbers, expected seconds"),
        (_probe(times=lambda t: np.where(t > 100, np.nan, t)), "not every time is a finite"),
        (_probe(times=lambda t: t * 1000), "probe imec1.times: (.* spikes/s in|.*outlasts)"),
        (_probe(times=lambda t: t[1:]), "probe imec1: 5999 times but 6000 clusters"),
        (_probe(clusters=lambda c: c + 1), "spikes of cluster 4, which is not among the 4 units"),
        (_probe(clusters=lambda c: c.astype(float)), "probe imec1.clusters: float64, expected"),
        (_probe(clusters=lambda c: c * 0 + 7), "every spike is of cluster 0, of 4"),
        ({"probes": {}}, "no probe with spikes"),
        ({"probes": {"a": {"times": [1.0]}}}, "probe a.clusters: missing"),
        ({"probes": {"a": {"times": [], "clusters": [], "depths": []}}}, "'depths' is none of"),
        (_units(cluster_id=[7, 3, 12, 12]), "cluster_id: expected every one once"),
        (_units(cluster_id=[7, 3, 12, -1]), "cluster_id: expected whole numbers from 0"),
        (_units(label=["good", "bad", "", ""]), "label: 'bad' is none of good, mua, unsorted"),
        (_units(label=[1, 2, 3, 4]), "label: expected scores from 0 to 1"),
        (_units(region=[1, 2, 3, 123456789]), "region: 123456789 is no id of the Allen atlas"),
        (_units(depth=["a", "b", "c", "d"]), "depth: 'a' in row 0, expected a number"),
        ({"trials": None}, "trials: missing, and windows are to be aligned to cue"),
        ({"trials": pd.DataFrame({"que": [1.0]})}, "trials: no column cue to align to"),
        ({"signals": {"speed": ([0, 1], [1.0])}}, "signal speed: .* times but .* values"),
        ({"signals": {"speed": ([1, 0], [1.0, 2.0])}}, "times are not in ascending order"),
        ({"signals": {"speed": [1.0, 2.0, 3.0]}}, "signal speed: expected times and values"),
        ({"signals": {"contrast": ([0, 1], [1, 2])}}, "signal contrast: cannot name a variable"),
    ],
)
def test_what_cannot_be_is_named_and_nothing_is_written(
    given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(SessionError, match=said):
        add(tmp_path / "c.zarr", **given)
    assert len(ibl_mtm.open_cache(tmp_path / "c.zarr")) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"date": "6 May"}, "'6 May' is no date"),
        ({"subject": ""}, "needs a subject"),
        ({"align": {"event": "cue", "window": [0, 1], "bin": 0.3}}, "no multiple of the bin"),
        ({"settings": {"decode": {"go": "word"}}}, "decode.go"),
        ({"settings": {"conditons": ["go"]}}, "conditons"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said):
        add(tmp_path / "c.zarr", **given)
    assert not (tmp_path / "c.zarr").exists()


def test_nothing_that_is_no_cache_is_touched(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="no ibl-mtm cache"):
        add(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_what_was_added_is_not_ingested(tmp_path: Path) -> None:
    arrays_of = {"source": {"kind": "arrays", "digest": "x"}}
    with pytest.raises(UserError, match=r"put into a cache by ibl_mtm\.add_session"):
        ingest(Dataset.model_validate(arrays_of), "own", tmp_path / "c.zarr")
