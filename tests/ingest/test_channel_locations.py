"""Where units are, by channels: maps that fit together, that lack something, that contradict."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.through_one import channel_locations as module
from ibl_mtm.ingest.through_one.channel_locations import place_units

SITES = {
    "localCoordinates": np.array([[43, 20], [11, 40], [59, 60.0]]),
    "acronym": np.array(["CA1", "DG", "PO"]),
    "x": np.array([0.1, 0.2, 0.3]),
    "y": np.array([1.1, 1.2, 1.3]),
    "z": np.array([2.1, 2.2, 2.3]),
    "axial_um": np.array([25.0, 45, 65]),
}


class Loader:
    """Brainbox's, of one sorting whose own map has `n_channels`; `sites` is what it makes of it."""

    one, collection, pname = None, "alf/probe00/pykilosort", "probe00"

    def __init__(self, sites: dict[str, Any], n_channels: int = 3, **own: Any) -> None:
        self.sites = {name: values for name, values in sites.items() if values is not ...}
        self.own = {"localCoordinates": np.zeros((n_channels, 2)), **own}

    def load_channels(self, **options: Any) -> dict[str, Any]:
        return self.sites


@pytest.fixture
def locate(monkeypatch: pytest.MonkeyPatch) -> Any:
    def locate(loader: Loader, **clusters: Any) -> tuple[Any, list[str]]:
        monkeypatch.setattr(
            module, "find", lambda one, eid, name, collection: ["a"] * (name == "channels")
        )
        monkeypatch.setattr(module, "load", lambda eid, files: loader.own)
        monkeypatch.setattr(module, "_check_shapes", lambda eid, paths: None)
        notes: list[str] = []
        given = {name: np.array(values) for name, values in clusters.items()}
        return place_units(loader, "e", "probe00", given, 4, notes), notes

    return locate


def test_units_are_where_their_channels_are(locate: Any) -> None:
    found, notes = locate(Loader(SITES), channels=[2, 0, 0, 1])
    assert notes == []
    assert found["channel"].tolist() == [2, 0, 0, 1]
    assert found["region"].tolist() == ["PO", "CA1", "CA1", "DG"]
    assert found["depth"].tolist() == [65, 25, 25, 45]
    np.testing.assert_allclose(found["x"], [0.3, 0.1, 0.1, 0.2])
    np.testing.assert_allclose(found["z"], [2.3, 2.1, 2.1, 2.2])


def test_depths_of_units_themselves_count_before_those_of_sites(locate: Any) -> None:
    found, _ = locate(Loader(SITES), channels=[2, 0, 0, 1], depths=[1.5, 2.5, 3.5, 4.5])
    assert found["depth"].tolist() == [1.5, 2.5, 3.5, 4.5]
    found, _ = locate(Loader(SITES | {"axial_um": ...}), channels=[2, 0, 0, 1])
    assert found["depth"].tolist() == [60, 20, 20, 40]


def test_what_is_not_there_is_told(locate: Any) -> None:
    found, notes = locate(Loader(SITES), depths=[1, 2, 3, 4])
    assert notes == ["probe00: no clusters.channels; regions are unknown"]
    assert found["channel"].tolist() == [-1] * 4
    assert set(found["region"]) == {"unknown"}
    assert found["depth"].tolist() == [1, 2, 3, 4]
    found, notes = locate(Loader(SITES | {"acronym": None}), channels=[2, 0, 0, 1])
    assert notes == ["probe00/channels: no histology; regions are unknown"]
    assert found["depth"].tolist() == [65, 25, 25, 45]
    assert found[["x", "y", "z"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("channels", "told"),
    [
        ([0.0, 1, 2, 0], "expected channel numbers from 0"),
        ([0, -1, 2, 0], "expected channel numbers from 0"),
        ([0, 1, 3, 0], r"row 3 of 3 \(0 to n - 1\)"),
    ],
)
def test_channels_that_are_none(locate: Any, channels: list[float], told: str) -> None:
    with pytest.raises(SessionError, match=rf"probe00/clusters\.channels: {told}"):
        locate(Loader(SITES), channels=channels)


def test_maps_of_unequal_length_do_not_fit_together(locate: Any) -> None:
    short = SITES | {"acronym": SITES["acronym"][:2], "axial_um": None}
    with pytest.raises(SessionError, match=r"probe00/channels: .*'acronym': 2.* fit together"):
        locate(Loader(short), channels=[0, 1, 1, 0])


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        ([2, 0], None),
        (None, "2 rows but 3 electrodeSites, and no rawInd"),
        ([2.0, 0.0], "no rawInd"),
        ([3, 0], "no rawInd"),
        ([2, -1], "no rawInd"),
    ],
)
def test_a_sorters_own_map_is_found_among_the_probes_sites(
    locate: Any, raw: list[float] | None, told: str | None
) -> None:
    own = {} if raw is None else {"rawInd": np.array(raw)}
    loader = Loader(SITES, n_channels=2, **own)
    if told is None:
        found, _ = locate(loader, channels=[1, 0, 0, 1])
        assert found["region"].tolist() == ["CA1", "PO", "PO", "CA1"]
        assert found["channel"].tolist() == [1, 0, 0, 1]
    else:
        with pytest.raises(SessionError, match=told):
            locate(loader, channels=[1, 0, 0, 1])


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (IndexError(), r"channels\.brainLocationIds_ccf_2017: an id that the Allen atlas lacks"),
        (KeyError("mlapdv"), r"channels\.mlapdv: missing"),
    ],
)
def test_what_brainbox_trips_over_is_named(
    locate: Any, error: Exception, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader = Loader(SITES)

    def fail(**options: Any) -> None:
        raise error

    monkeypatch.setattr(loader, "load_channels", fail)
    with pytest.raises(SessionError, match=told):
        locate(loader, channels=[0, 1, 1, 0])


@pytest.mark.parametrize(
    ("attribute", "shape", "told"),
    [
        ("mlapdv", (5, 3), None),
        ("mlapdv", (5, 2), "shape (5, 2), expected 3 columns"),
        ("mlapdv", (15,), "shape (15,), expected 3 columns"),
        ("localCoordinates", (5, 2), None),
        ("localCoordinates", (5, 3), "shape (5, 3), expected 2 columns"),
        ("rawInd", (5,), None),
    ],
)
def test_maps_have_the_columns_that_brainbox_reads_by_their_number(
    monkeypatch: pytest.MonkeyPatch, attribute: str, shape: Any, told: str | None
) -> None:
    monkeypatch.setattr(module.np, "load", lambda path, mmap_mode: np.zeros(shape))
    monkeypatch.setattr(module, "place", lambda path: path.attribute)
    table, array = (
        SimpleNamespace(attribute=attribute, suffix=suffix) for suffix in (".pqt", ".npy")
    )
    module._check_shapes("e", [table])  # type: ignore[list-item]
    if told is None:
        module._check_shapes("e", [table, array])  # type: ignore[list-item]
    else:
        with pytest.raises(SessionError) as error:
            module._check_shapes("e", [table, array])  # type: ignore[list-item]
        assert f"{attribute}: {told}" in str(error.value)
