"""Which files of a release are taken, and how they come: single steps, by hand."""

import threading
import time

import pytest

from ibl_mtm.config.sources import AlyxSource
from ibl_mtm.ingest.alyx.at_once import each
from ibl_mtm.ingest.alyx.release import (
    RemoteFile,
    _borrow_maps,
    _one_camera,
    _one_sorting,
    choose_files,
    listed,
)

SESSION = "lab/Subjects/mouse/2024-01-01/001"


def make_file(path: str, **more) -> RemoteFile:
    values = {"id": path, "url": "u", "size": None, "md5": None}
    return RemoteFile(path=path, **values | more)


@pytest.mark.parametrize(
    ("path", "probe", "revision", "folder", "optional"),
    [
        ("alf/probe00/spikes.times.npy", "probe00", "", "alf/probe00", False),
        ("alf/probe00/ks/#2024-05-06#/spikes.times.npy", "probe00", "2024-05-06",
         "alf/probe00/ks", False),
        ("alf/#2024-05-06#/probe00/spikes.times.npy", "probe00", "2024-05-06", "alf/probe00",
         False),
        ("alf/probe_description.json", None, "", "alf", True),
        ("alf/task_00/licks.times.npy", None, "", "alf/task_00", True),
        ("alf/_ibl_trials.table.pqt", None, "", "alf", False),
        ("alf/#2025-01-01#/_ibl_trials.table.pqt", None, "2025-01-01", "alf", False),
        ("licks.times.npy", None, "", ".", True),
    ],
)  # fmt: skip
def test_a_path_tells_what_a_file_is_of(path, probe, revision, folder, optional):
    file = make_file(path)
    assert (file.probe, file.revision, file.folder, file.optional) == (
        probe,
        revision,
        folder,
        optional,
    )
    assert file.name == path.split("/")[-1]
    assert file.object == file.name.split(".")[0]


LEFT = ("alf/_ibl_leftCamera.times.npy", "alf/leftCamera.ROIMotionEnergy.npy")
RIGHT = ("alf/_ibl_rightCamera.times.npy", "alf/rightCamera.ROIMotionEnergy.npy")
LICKS = "alf/licks.times.npy"


@pytest.mark.parametrize(
    ("left", "spare"), [(LEFT, set(RIGHT)), (LEFT[:1], set()), (LEFT[1:], set()), ((), set())]
)
def test_the_right_camera_is_spare_where_all_of_the_left_is_there(left, spare):
    files = [make_file(path) for path in (*RIGHT, LICKS, *left)]
    found = _one_camera(files)
    assert [file.path for file in found] == [file.path for file in files]
    assert {file.path for file in found if file.spare} == spare


def test_of_several_sortings_one_is_taken_with_the_sites_of_the_probe():
    def chosen(*folders):
        files = [make_file(f"{folder}/spikes.times.npy") for folder in folders]
        files += [make_file(f"{folder}/clusters.depths.npy") for folder in folders]
        files += [make_file("alf/probe00/electrodeSites.mlapdv.npy")]
        files += [make_file("alf/probe00/none/clusters.depths.npy")]
        found = _one_sorting(files)
        assert not found or found.pop().name == "electrodeSites.mlapdv.npy"
        assert len(found) in (0, 2)
        return {file.folder.removeprefix("alf/probe00") for file in found}

    assert chosen("alf/probe00/pykilosort", "alf/probe00/iblsorter") == {"/iblsorter"}
    assert chosen("alf/probe00/ks2", "alf/probe00/pykilosort") == {"/pykilosort"}
    assert chosen("alf/probe00/ks2", "alf/probe00") == {""}  # the outermost of any others
    assert chosen("alf/probe00/ks2_long", "alf/probe00/ks2") == {"/ks2"}
    assert chosen() == set()


def test_notes_of_a_kind_are_one_from_the_fourth_on():
    assert listed([], "gone") == []
    assert listed(["a", "b", "c"], "gone") == ["a: gone", "b: gone", "c: gone"]
    assert listed(["a", "b", "c", "d"], "gone") == ["a and 3 more files: gone"]


def test_maps_of_another_size_are_borrowed_from_beside_the_spikes():
    folder = "alf/probe00/ks"
    spikes = make_file(f"{folder}/#2023-01-01#/spikes.times.npy")

    def maps(revision, size):
        return [
            make_file(f"{folder}/{revision}channels.{name}.npy", size=size + n)
            for n, name in enumerate(("mlapdv", "rawInd"))
        ]

    old, new, same = maps("#2023-01-01#/", 30), maps("", 90), maps("", 30)
    other = make_file(f"{folder}/clusters.depths.npy")
    found = _borrow_maps([*new, other], [spikes, *old, *new, other], [spikes])
    assert [(file.path, file.borrowed) for file in found] == [(file.path, True) for file in old]
    found = _borrow_maps([*same, other], [spikes, *old, *same, other], [spikes])
    assert [file.path for file in found] == [file.path for file in same]
    # One of another size changes all of its folder that are there.
    mixed = [same[0], new[1]]
    found = _borrow_maps(mixed, [spikes, old[1], *mixed], [spikes])
    assert [file.path for file in found] == [same[0].path, old[1].path]


def choose(paths, tagged=None, probes=None, event=None, **changes):
    records = [
        {
            "id": path,
            "data_url": f"https://files.org/{SESSION}/{path.replace('#', '%23')}",
            "default_revision": "True",
            "file_size": 7,
            **changes.get(path, {}),
        }
        for path in paths
    ]
    source = AlyxSource(kind="alyx", url="https://alyx.org", username="me", tag="T")
    files, notes = choose_files(
        {"data_dataset_session_related": records}, tagged, source, event, probes
    )
    return {file.path: file for file in files}, notes


SPIKES = [f"alf/probe0{n}/ks/spikes.{name}.npy" for n in (0, 1) for name in ("times", "clusters")]


def test_what_is_critical_is_told_of_the_probes_that_are_wanted_alone():
    bad = {path: {"qc": "CRITICAL"} for path in (SPIKES[3], LICKS)}
    bad["alf/notes.txt"] = {"qc": "CRITICAL"}  # which nobody needs
    paths = [*SPIKES, LICKS, "alf/notes.txt"]
    told = "left out, as its quality is CRITICAL"
    files, notes = choose(paths, **bad)
    assert set(files) == set(SPIKES[:3])
    assert notes == [f"{SPIKES[3]}: {told}", f"{LICKS}: {told}"]
    files, notes = choose(paths, probes=["probe00"], **bad)
    assert set(files) == set(SPIKES[:2])
    assert notes == [f"{LICKS}: {told}"]
    files, notes = choose(paths, probes=["probe01"], **bad)
    assert set(files) == {SPIKES[2]}
    assert len(notes) == 2


def test_what_is_in_a_laboratory_only_is_not_there():
    files, notes = choose([LICKS, SPIKES[0]], **{LICKS: {"data_url": None}})
    assert (set(files), notes) == ({SPIKES[0]}, [])
    files, _ = choose([LICKS], **{LICKS: {"file_size": None, "hash": ""}})
    assert (files[LICKS].size, files[LICKS].md5) == (None, None)
    assert choose([LICKS])[0][LICKS].size == 7


def test_what_a_release_lacks_is_told_by_probe():
    paths = [*SPIKES, LICKS, "alf/probe02/ks/clusters.depths.npy"]
    files, notes = choose(paths, tagged=set(SPIKES[:2]))
    assert set(files) == {*SPIKES, LICKS}
    told = "not in release T; the default revision is used"
    assert notes == [f"{LICKS}: {told}", f"alf/probe01: {told}"]
    # A probe that was sorted for it has nothing of another sorting but maps.
    depths, raw = "alf/probe00/ks/clusters.depths.npy", "alf/probe00/ks/channels.rawInd.npy"
    files, notes = choose([*SPIKES[:2], depths, raw], tagged=set(SPIKES[:2]))
    assert set(files) == {*SPIKES[:2], raw}
    assert notes == [f"alf/probe00: channels.* {told}"]
    assert [file.path for file in files.values() if file.borrowed] == [raw]


def test_no_more_threads_than_items_or_than_are_allowed():
    for n_items, n_threads, expected in ((6, 2, 2), (3, 8, 3), (4, 1, 1)):
        gate = threading.Barrier(expected)
        names = set()

        def action(item, stop, gate=gate, names=names):
            names.add(threading.current_thread().name)
            gate.wait(timeout=5)

        each(action, range(n_items), n_threads)
        assert len(names) == expected


def test_after_an_error_hardly_anything_more_is_begun():
    begun, told = [], []

    def action(item, stop):
        begun.append(item)
        if item == 2:
            raise KeyError(item)
        if item > 2:
            told.append(stop.wait(5))

    with pytest.raises(KeyError):
        each(action, range(9), 1)
    assert begun in ([0, 1, 2], [0, 1, 2, 3])
    assert all(told)


def test_what_is_under_way_is_waited_for_after_an_error():
    ended = []

    def action(item, stop):
        if item == "fails":
            begun.wait(5)
            raise KeyError(item)
        begun.set()
        stop.wait(5)
        time.sleep(0.05)
        ended.append(item)

    begun = threading.Event()
    with pytest.raises(KeyError):
        each(action, ["waits", "fails"], 2)
    assert ended == ["waits"]
