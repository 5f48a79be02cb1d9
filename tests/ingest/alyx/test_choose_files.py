"""Which of several versions of a file is taken: by default, by a tag, up to a revision."""

import numpy as np
import pytest

from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.ingest.alyx.fitting import fitting
from ibl_mtm.ingest.alyx.release import choose_files

SESSION = "lab/Subjects/mouse/2024-01-01/001"
#: Versions of one file, the one without a revision first.
REVISIONS = ("", "2023-05-01", "2024-01-01", "2024-06-01")


def record(revision: str, *, default: bool = False) -> dict:
    folder = f"alf/#{revision}#" if revision else "alf"
    return {
        "id": f"id-{revision}",
        "data_url": f"https://files.org/{SESSION}/{folder}/_ibl_wheel.position.npy",
        "file_size": 3,
        "hash": "",
        "qc": "PASS",
        "default_revision": str(default),
    }


def chosen(default: str, tagged: set[str] | None = None, **source: object) -> str:
    session = {"data_dataset_session_related": [record(r, default=r == default) for r in REVISIONS]}
    alyx = AlyxSource(kind="alyx", url="https://alyx.org", username="me", **source)
    files, _ = choose_files(session, tagged, alyx, event=None)
    (file,) = files
    return file.revision


@pytest.mark.parametrize("default", REVISIONS)
def test_the_default_is_taken_however_old(default):
    assert chosen(default) == default


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("2024-06-01", "2024-06-01"),  # that very day
        ("2024-05-31", "2024-01-01"),
        ("2024-01-01", "2024-01-01"),
        ("2023-04-30", ""),
    ],
)
def test_the_last_one_up_to_a_revision_is_taken_whatever_the_default(limit, expected):
    for default in REVISIONS:
        assert chosen(default, revision=limit) == expected


def test_of_those_that_carry_a_tag_the_default_is_taken_and_else_the_last():
    tagged = {"id-2023-05-01", "id-2024-01-01"}
    assert chosen("2024-06-01", tagged, tag="Release") == "2024-01-01"
    assert chosen("2023-05-01", tagged, tag="Release") == "2023-05-01"


def trials(names: list[str], event: str) -> set[str]:
    """Which files of trials are taken of these: name, or #REVISION#/name."""
    records = [
        {
            "id": name,
            "data_url": f"https://files.org/{SESSION}/alf/{name.replace('#', '%23')}",
            "default_revision": "True",
        }
        for name in names
    ]
    alyx = AlyxSource(kind="alyx", url="https://alyx.org", username="me", tag="T")
    files, _ = choose_files({"data_dataset_session_related": records}, None, alyx, event)
    return {file.path.removeprefix("alf/") for file in files}


def test_a_column_is_taken_beside_the_table_if_it_was_revised_after_it():
    table, column = "_ibl_trials.table.pqt", "_ibl_trials.choice.npy"
    newer, event = f"#2025-03-01#/{column}", "_ibl_trials.goCueTrigger_times.npy"
    assert trials([table, column, event], "goCueTrigger_times") == {table, event}
    assert trials([table, newer], "stimOn_times") == {table, newer}
    revised = f"#2025-04-01#/{table}"
    assert trials([revised, newer], "stimOn_times") == {revised}


def test_maps_of_sites_are_borrowed_too_and_left_out_where_they_do_not_fit(tmp_path):
    """A probe sorted for the release, whose channels carry the tag and whose sites do not."""
    shapes = {
        "alf/probe00/pykilosort/spikes.times.npy": (9,),
        "alf/probe00/pykilosort/spikes.clusters.npy": (9,),
        "alf/probe00/pykilosort/channels.localCoordinates.npy": (374, 2),
        "alf/probe00/electrodeSites.mlapdv.npy": (384, 3),
    }
    records = []
    for path, shape in shapes.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / path, np.zeros(shape))
        url = f"https://files.org/{SESSION}/{path}"
        records.append({"id": path, "data_url": url, "default_revision": "True"})
    alyx = AlyxSource(kind="alyx", url="https://alyx.org", username="me", tag="T")
    tagged = {path for path in shapes if "Sites" not in path}
    session = {"data_dataset_session_related": records}
    files, notes = choose_files(session, tagged, alyx, event=None)
    assert notes == ["alf/probe00: electrodeSites.* not in release T; the default revision is used"]
    assert [file.name for file in files if file.borrowed] == ["electrodeSites.mlapdv.npy"]
    left, misfits = fitting(files, tmp_path)
    assert [file.object for file in left] == ["spikes", "spikes", "channels"]
    assert misfits == [
        "alf/probe00/electrodeSites.*: not in the release, and not used: "
        "384 sites, but 374 channels"
    ]
    np.save(tmp_path / "alf/probe00/electrodeSites.mlapdv.npy", np.zeros((374, 3)))
    assert fitting(files, tmp_path) == (files, [])
