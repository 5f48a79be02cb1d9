"""Which of several versions of a file is taken: by default, by a tag, up to a revision."""

import pytest

from ibl_mtm.config.catalog import AlyxSource
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
