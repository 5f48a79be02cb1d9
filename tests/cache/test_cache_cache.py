"""Opening a cache, choosing sessions by their table, reading them lazily."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from synthetic import make_regions, make_session

import ibl_mtm
from ibl_mtm.cache.cache import Cache, UnknownSessionError, as_cache, open_cache
from ibl_mtm.cache.guard import reading
from ibl_mtm.cache.store import create_cache, write_session
from ibl_mtm.errors import SessionError, UserError

SESSIONS = [
    make_session(n_units=5 + 5 * seed, seed=seed, lab=lab, role=role)
    for seed, (lab, role) in enumerate(
        [("cortexlab", "pretrain"), ("cortexlab", "finetune"), ("angelakilab", "pretrain")]
    )
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cache") / "cache.zarr"
    create_cache(root)
    for ds in SESSIONS:
        write_session(root, ds, make_regions())
    return root


def test_a_cache_is_a_mapping(root: Path) -> None:
    cache = ibl_mtm.open_cache(str(root))
    assert isinstance(cache, ibl_mtm.Cache)
    assert len(cache) == 3
    assert sorted(cache) == sorted(ds.eid for ds in SESSIONS)
    for ds in SESSIONS:
        assert ds.eid in cache
        assert cache[ds.eid].equals(ds)
    assert {eid: ds.eid for eid, ds in cache.items()} == {eid: eid for eid in cache}


def test_the_table_of_sessions(root: Path) -> None:
    table = open_cache(root).sessions
    assert table.index.name == "eid"
    for ds in SESSIONS:
        row = table.loc[ds.eid]
        assert (row.subject, row.lab, row.date, row.number) == tuple(
            ds.attrs[name] for name in ("subject", "lab", "date", "number")
        )
        assert (row.dataset, row.role, row.probes) == ("synthetic", ds.role, "probe00")
        assert row.n_units == len(ds.unit)
        assert row.n_good_units == sum(float(label) == 1.0 for label in ds.label)
        assert row.n_trials == len(ds.trial)
        assert row.n_included == sum(map(bool, ds.included))
        assert row.mean_rate == pytest.approx(float(ds.spikes.mean()) / 0.02)
    assert table.loc[SESSIONS[1].eid, "regions"] == "VISa:2 CA1:2 DG:2 LP:2 PO:2"
    table["n_units"] = 0
    assert open_cache(root).sessions.n_units.min() == 5


@pytest.mark.parametrize(
    ("expression", "chosen"),
    [
        ("n_units > 5", [1, 2]),
        ("n_units > 5 and lab == 'cortexlab'", [1]),
        ("role == 'finetune'", [1]),
        (f"eid == '{SESSIONS[2].eid}'", [2]),
        ("regions.str.contains('CA1:3')", [2]),
        ("n_units > 100", []),
    ],
)
def test_where(root: Path, expression: str, chosen: list[int]) -> None:
    part = open_cache(root).where(expression)
    assert set(part) == {SESSIONS[i].eid for i in chosen}
    assert set(part.sessions.index) == set(part)
    assert isinstance(part, Cache)


@pytest.mark.parametrize(
    "expression", ["n_unit > 3", "n_units >", "n_units", "n_units = 3", "@x > 3", "", "lab > 3"]
)
def test_a_bad_expression_names_the_columns(root: Path, expression: str) -> None:
    with pytest.raises(UserError, match=r"the columns are eid, subject, lab") as caught:
        open_cache(root).where(expression)
    assert "\n" not in str(caught.value)


def test_an_unknown_session(root: Path) -> None:
    cache = open_cache(root)
    assert "nobody" not in cache
    assert cache.get("nobody") is None
    with pytest.raises(KeyError):
        cache["nobody"]
    with pytest.raises(UserError) as caught:
        cache["nobody"]
    assert str(caught.value) == (
        f"no session 'nobody' in {root}, which has 3: {', '.join(sorted(cache))}"
    )
    part = cache.where("n_units > 5")
    assert SESSIONS[0].eid not in part
    with pytest.raises(UserError, match="which has 2"):
        part[SESSIONS[0].eid]


def test_arrays_are_lazy(root: Path) -> None:
    ds = open_cache(root)[SESSIONS[0].eid]
    lazy = [name for name, variable in ds.variables.items() if not variable._in_memory]
    assert set(lazy) == set(ds.variables) - {"trial", "time", "unit"}
    assert ds.spikes.chunks is None
    ca1 = ds.sel(unit=ds.beryl == "CA1")
    assert ca1.spikes.equals(SESSIONS[0].spikes.isel(unit=SESSIONS[0].beryl == "CA1"))


def test_labels_go_with_the_counts(root: Path) -> None:
    spikes = open_cache(root)[SESSIONS[0].eid].spikes
    assert {"beryl", "label", "choice", "split"} <= set(spikes.coords)
    by_choice = spikes.groupby("choice").mean()
    assert by_choice.sizes["choice"] == len(np.unique(SESSIONS[0].choice))


def test_dask_arrays_when_asked_for(root: Path) -> None:
    ds = open_cache(root).open(SESSIONS[0].eid, chunks={})
    assert ds.spikes.chunks == ((40,), (100,), (5,))
    assert int(ds.spikes.sum().compute()) == int(SESSIONS[0].spikes.sum())


def test_everything_as_one_tree(root: Path) -> None:
    cache = open_cache(root)
    tree = cache.to_datatree()
    assert set(tree.children) == set(cache)
    assert all(tree[ds.eid].to_dataset().equals(ds) for ds in SESSIONS)
    good = tree.map_over_datasets(lambda ds: ds.isel(unit=ds.label >= 1) if ds else ds)
    assert sum(node.sizes["unit"] for node in good.leaves) == cache.sessions.n_good_units.sum()
    assert set(cache.where("n_units > 5").to_datatree().children) == {ds.eid for ds in SESSIONS[1:]}


def test_colours_of_regions(root: Path) -> None:
    regions = open_cache(root).regions
    assert regions.loc["CA1"].to_dict() == {"name": "Field CA1", "order": 455, "color": "#7ed04b"}


def test_a_cache_shows_what_it_holds(root: Path) -> None:
    cache = open_cache(root)
    assert "3 sessions of 3 subjects, 30 units, 120 trials" in repr(cache)
    assert "<table" in cache._repr_html_()
    assert "0 sessions" in repr(cache.where("n_units > 100"))


def test_a_cache_can_be_sent_to_a_worker(root: Path) -> None:
    cache = open_cache(root)
    assert pickle.loads(pickle.dumps(cache))[SESSIONS[0].eid].equals(SESSIONS[0])
    opened = pickle.loads(pickle.dumps(cache[SESSIONS[0].eid]))
    assert opened.equals(SESSIONS[0])


def test_no_cache(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no cache at .*; 'ibl-mtm ingest"):
        open_cache(tmp_path / "none")
    with pytest.raises(UserError, match="is no ibl-mtm cache"):
        open_cache(tmp_path)
    xr.Dataset({"a": ("x", [1])}).to_zarr(tmp_path / "other.zarr", consolidated=False)
    with pytest.raises(UserError, match="is no ibl-mtm cache"):
        open_cache(tmp_path / "other.zarr")


def test_a_cache_from_the_future(tmp_path: Path) -> None:
    create_cache(tmp_path / "cache")
    path = tmp_path / "cache" / "zarr.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 2'))
    with pytest.raises(UserError, match=r"format 2, .* reads up to 1; upgrade"):
        open_cache(tmp_path / "cache")


@pytest.fixture
def own_root(tmp_path: Path) -> Path:
    create_cache(tmp_path / "cache")
    write_session(tmp_path / "cache", SESSIONS[0], make_regions())
    return tmp_path / "cache"


def test_a_lost_chunk_is_no_silence(own_root: Path) -> None:
    ds = open_cache(own_root)[SESSIONS[0].eid]
    (own_root / SESSIONS[0].eid / "spikes" / "c" / "0" / "0" / "0").unlink()
    with pytest.raises(SessionError, match="spikes/c/0/0/0 is missing"):
        ds.spikes.load()


def test_a_replaced_session_is_not_mixed_with_the_new_one(own_root: Path) -> None:
    eid = SESSIONS[0].eid
    ds = open_cache(own_root)[eid]
    write_session(own_root, SESSIONS[0], make_regions(), overwrite=True)
    with pytest.raises(SessionError, match="replaced since it was opened"):
        ds.spikes.load()
    assert open_cache(own_root)[eid].equals(SESSIONS[0])


def test_reading_needs_neither_torch_nor_one_nor_dask() -> None:
    code = (
        "import sys, ibl_mtm.cache.cache, ibl_mtm.cache.check\n"
        "assert not {'torch', 'one', 'dask', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def named(*eids: str) -> Cache:
    """A cache that has but a table: of sessions of these ids, of animals in turn."""
    subjects = [("KS014", "KS014", "abcd")[n % 3] for n in range(len(eids))]
    table = pd.DataFrame({"subject": subjects}, index=pd.Index(eids, name="eid"))
    return Cache(Path("nowhere"), table)


def test_sessions_are_found_by_id_beginning_or_animal() -> None:
    cache = named("abcd1234-1", "abce1234-2", "abcd1235-3")
    assert cache.find("abcd1234-1") == ["abcd1234-1"]
    assert cache.find("abcd1234") == ["abcd1234-1"]
    assert cache.find("abce") == ["abce1234-2"]
    assert cache.find("KS014") == ["abcd1234-1", "abce1234-2"]
    with pytest.raises(UnknownSessionError, match=r"'abcd' begins the ids of 2 sessions: abcd1234"):
        cache.find("abcd")  # an animal's name, too
    for unknown in ("abc", "ks014", "bcd1234"):
        with pytest.raises(UnknownSessionError, match=unknown):
            cache.find(unknown)
    assert named("abcd", "xyz").find("xyz") == ["xyz"]


def test_short_names_are_as_long_as_they_must_be() -> None:
    assert named("12345678-a", "1234567a-a").short_names == {
        "12345678-a": "12345678",
        "1234567a-a": "1234567a",
    }
    assert set(named("12345678-abc", "12345678-abd").short_names.values()) == {
        "12345678-abc",
        "12345678-abd",
    }
    same = named("12345678-abcd-1", "12345678-abcd-2")
    assert list(same.short_names.values()) == ["12345678-abcd-1", "12345678-abcd-2"]


def test_what_is_open_stays_as_it_is(root: Path) -> None:
    cache = open_cache(root)
    assert as_cache(cache) is cache
    assert set(as_cache(root)) == set(cache)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (SessionError("x", "lost; run ibl-mtm check"), "lost"),
        (OSError("io"), r"cannot be read \(io\)"),
    ],
)  # fmt: skip
def test_damage_that_readers_meet_is_told_with_the_mend(error: Exception, told: str) -> None:
    with (
        pytest.raises(SessionError, match=rf"e: {told}; ibl-mtm check CACHE --repair"),
        reading("e"),
    ):
        raise error


def test_a_user_s_error_is_told_as_it_is() -> None:
    with pytest.raises(UserError, match=r"^mine$"), reading("e"):
        raise UserError("mine")
