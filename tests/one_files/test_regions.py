"""Regions keep their place, one for one."""

import numpy as np
import pytest

from ibl_mtm.one_files.regions import UNKNOWN, atlas, region_table, regions_of, resolve_regions


@pytest.mark.parametrize(
    ("acronym", "beryl", "cosmos"),
    [
        ("VISa1", "VISa", "Isocortex"),
        ("CA1", "CA1", "HPF"),
        ("DG-mo", "DG", "HPF"),
        ("LP", "LP", "TH"),
        ("PO", "PO", "TH"),
        ("fp", "root", "root"),
        ("void", "void", "void"),
        (UNKNOWN, UNKNOWN, UNKNOWN),
    ],
)
def test_regions_of_the_repeated_site(acronym, beryl, cosmos):
    among_others = np.array(["root", acronym, "CA3", acronym])
    assert regions_of(among_others, "Beryl").tolist() == ["root", beryl, "CA3", beryl]
    assert regions_of(among_others, "Cosmos").tolist() == ["root", cosmos, "HPF", cosmos]


def test_every_region_of_the_atlas_has_its_place():
    acronyms = np.unique(atlas().acronym)
    for mapping in ("Beryl", "Cosmos"):
        mapped = regions_of(acronyms, mapping)
        assert mapped.shape == acronyms.shape
        assert (regions_of(mapped, mapping) == mapped).all()


def test_an_acronym_that_iblatlas_would_drop_is_named():
    with pytest.raises(ValueError, match="'ca1' is no acronym"):
        regions_of(np.array(["CA1", "ca1", "LP"]), "Beryl")


def test_the_table_of_regions_is_in_the_allen_order():
    table = region_table(["PO", UNKNOWN, "CA1", "VISa", "CA1"]).set_index("acronym")
    assert list(table.index) == ["VISa", "CA1", "PO", UNKNOWN]
    assert table.loc["CA1", "name"] == "Field CA1"
    assert table.loc["CA1", "color"] == "#7ed04b"
    assert table["order"].is_monotonic_increasing


def test_regions_as_people_write_them():
    """Acronyms, ids (negative on the left side), names of one's own, and none."""
    given = ["DG-mo", 382, -382.0, np.int64(218), "barrel C2", " CA1 ", "", None, np.nan, "unknown"]
    table, own = resolve_regions(given)
    assert list(table["region"]) == [
        *("DG-mo", "CA1", "CA1", "LP", "barrel C2", "CA1"),
        *([UNKNOWN] * 4),
    ]
    assert list(table["beryl"]) == ["DG", "CA1", "CA1", "LP", UNKNOWN, "CA1", *([UNKNOWN] * 4)]
    assert list(table["cosmos"])[:5] == ["HPF", "HPF", "HPF", "TH", UNKNOWN]
    assert own == ["barrel C2"]
    for strange in (123456789, 382.5):
        with pytest.raises(ValueError, match="is no id of the Allen atlas"):
            resolve_regions(["CA1", strange])


def test_a_name_of_ones_own_comes_last_in_grey():
    table = region_table(["my spot", "CA1", UNKNOWN]).set_index("acronym")
    assert table.index[0] == "CA1"
    assert table.loc["my spot", "color"] == table.loc[UNKNOWN, "color"]
    assert table.loc["my spot", "name"] == "not of the Allen atlas"
