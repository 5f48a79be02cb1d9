"""`simulate` writes the same experiment for the same settings, and never over another one."""

import errno
import hashlib
import threading
import uuid
from pathlib import Path

import pandas as pd
import pytest

from ibl_mtm.errors import UserError
from ibl_mtm.simulate.simulation import Simulation, simulate
from ibl_mtm.simulate.truth import open_truth

TINY = Simulation(sessions=3, units=20, trials=12, seed=5)


def digest(root: Path) -> dict[str, str]:
    """A fingerprint of every file below a folder."""
    files = (path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_same_settings_give_the_same_bytes(tmp_path):
    first = simulate(tmp_path / "a", TINY)
    second = simulate(tmp_path / "b", TINY)
    assert first == second
    files = digest(tmp_path / "a")
    assert len(files) > 100
    assert files == digest(tmp_path / "b")


def test_another_seed_gives_other_animals(tmp_path):
    first = simulate(tmp_path / "a", TINY)
    second = simulate(tmp_path / "b", TINY.model_copy(update={"seed": 6}))
    assert not set(first) & set(second)
    a, b = digest(tmp_path / "a"), digest(tmp_path / "b")
    spikes = [value for name, value in a.items() if name.endswith("spikes.times.npy")]
    assert len(spikes) == 5  # 1 + 2 + 1 insertions, and one older sorting
    assert not set(spikes) & set(b.values())


def test_a_session_does_not_depend_on_how_many_follow(tmp_path):
    few = simulate(tmp_path / "few", TINY.model_copy(update={"sessions": 1}))
    many = simulate(tmp_path / "many", TINY)
    assert many[:1] == few
    few_files, many_files = digest(tmp_path / "few"), digest(tmp_path / "many")
    own = [name for name in few_files if "/" in name and not name.endswith("simulation.json")]
    assert len(own) > 30
    assert all(few_files[name] == many_files[name] for name in own)


def test_a_finished_experiment_is_left_alone(tmp_path):
    eids = simulate(tmp_path, TINY)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    lines: list[str] = []
    assert simulate(tmp_path, TINY, lines.append) == eids
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before
    assert not lines


def test_an_interrupted_experiment_is_done_again(tmp_path):
    def kill_at_second(line: str) -> None:
        if line.startswith("session 2"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path / "a", TINY, kill_at_second)
    assert not (tmp_path / "a" / "sessions.pqt").exists()
    with pytest.raises(UserError, match="interrupted"):
        open_truth(tmp_path / "a", "any session")
    simulate(tmp_path / "a", TINY)
    simulate(tmp_path / "b", TINY)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_two_at_once_write_it_once(tmp_path):
    second_lines: list[str] = []
    second = threading.Thread(target=simulate, args=(tmp_path / "a", TINY, second_lines.append))
    first_lines: list[str] = []

    def start_second(line: str) -> None:
        first_lines.append(line)
        if len(first_lines) == 1:
            second.start()

    simulate(tmp_path / "a", TINY, start_second)
    second.join()
    assert len(first_lines) == 3
    assert not second_lines
    simulate(tmp_path / "b", TINY)
    assert digest(tmp_path / "a") == digest(tmp_path / "b")


def test_another_experiment_is_never_overwritten(tmp_path):
    simulate(tmp_path, TINY)
    before = digest(tmp_path)
    with pytest.raises(UserError, match=r"another simulated experiment .*units=20.*seed=5"):
        simulate(tmp_path, TINY.model_copy(update={"seed": 6}))
    assert digest(tmp_path) == before


def test_a_folder_with_other_things_in_it_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="not empty"):
        simulate(tmp_path, TINY)
    with pytest.raises(UserError, match="is a file"):
        simulate(tmp_path / "thesis.tex", TINY)
    with pytest.raises(UserError, match="cannot make"):
        simulate(tmp_path / "thesis.tex" / "ONE", TINY)


def test_progress_names_each_session(tmp_path):
    lines: list[str] = []
    simulate(tmp_path, TINY, lines.append)
    assert [line.split(":")[0] for line in lines] == [f"session {k} of 3" for k in (1, 2, 3)]


def test_full_scale_has_sizes_of_its_own_unless_told_otherwise():
    full = Simulation(scale="full")
    assert (full.units, full.trials) == (900, 600)
    assert Simulation(scale="full", trials=10).trials == 10
    assert (Simulation().units, Simulation().trials) == (80, 240)


def test_every_layout_of_the_ibl_occurs(experiment):
    layouts = []
    for eid in experiment.eids:
        alf = experiment.alf(eid)
        layouts.append([str(folder.relative_to(alf)) for folder in experiment.sortings(eid)])
    assert layouts == [
        ["probe00/pykilosort"],
        ["probe00/iblsorter", "probe01/pykilosort"],
        ["probe00/pykilosort/#2024-05-06#"],
        ["probe00/iblsorter", "probe01/iblsorter"],
    ]


def test_an_older_sorting_found_fewer_clusters_and_shares_no_uuid(experiment):
    (newer,) = experiment.sortings(experiment.eids[2])
    uuids = [set(pd.read_csv(f / "clusters.uuids.csv")["uuids"]) for f in (newer, newer.parent)]
    assert 0.5 < len(uuids[1]) / len(uuids[0]) < 0.9
    assert not uuids[0] & uuids[1]


def test_ids_are_those_of_real_sessions_in_form(experiment):
    tables = [pd.read_parquet(experiment.root / f"{t}.pqt") for t in ("datasets", "insertions")]
    ids = {i for table in tables for level in table.index for i in level}
    ids |= {u for eid in experiment.eids for u in experiment.spikes(eid)}
    assert len(ids) > 400
    assert {uuid.UUID(i).version for i in ids} == {4}


def test_no_two_sessions_agree_in_their_number_of_units(experiment):
    sizes = [len(experiment.spikes(eid)) for eid in experiment.eids]
    assert len(set(sizes)) == len(sizes)
    assert all(0.9 * 72 - 1 <= size <= 1.1 * 72 + 1 for size in sizes)


def test_a_disk_that_is_full_is_told_in_one_line(tmp_path, monkeypatch):
    def write(root, plan):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ibl_mtm.simulate.simulation.write_session", write)
    with pytest.raises(UserError, match=rf"cannot write {tmp_path}/a: No space left on device"):
        simulate(tmp_path / "a", TINY)
