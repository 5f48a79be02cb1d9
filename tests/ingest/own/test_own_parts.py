"""Single steps of reading one's own recordings: what each refuses, leaves out and notes."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from test_alf_2019 import write_session
from test_phy import write_probe

from ibl_mtm.errors import SessionError
from ibl_mtm.ingest.own.alf_2019 import _probes
from ibl_mtm.ingest.own.phy import _read_probe
from ibl_mtm.ingest.own.quality import without_noise
from ibl_mtm.ingest.own.recordings import _insertion


def spikes(*clusters: int) -> dict[str, Any]:
    return {"times": np.arange(len(clusters)) + 1.5, "clusters": np.array(clusters)}


def test_without_a_table_units_are_the_clusters_that_have_spikes() -> None:
    notes: list[str] = []
    found = _insertion("e", "a", spikes(7, 3, 7, 9), notes)
    assert found.units["cluster_id"].tolist() == [3, 7, 9]
    assert found.clusters.tolist() == [1, 0, 1, 2]
    assert found.units["unit"].tolist() == ["e:a:3", "e:a:7", "e:a:9"]
    assert "probe a: no table of units; units are the clusters that have spikes" in notes
    assert found.units["channel"].tolist() == [-1, -1, -1]
    assert found.units["label"].isna().all()


def test_ids_may_be_the_index_of_the_table_and_in_any_order() -> None:
    table = pd.DataFrame({"label": [0.5, 1.0, 0.0]}, index=pd.Index([9, 3, 7], name="cluster_id"))
    found = _insertion("e", "a", spikes(7, 3, 7, 9) | {"units": table}, [])
    assert found.units["cluster_id"].tolist() == [9, 3, 7]
    assert found.clusters.tolist() == [2, 1, 2, 0]
    with pytest.raises(SessionError, match=r"probe a\.units: no column cluster_id"):
        _insertion("e", "a", spikes(3) | {"units": table.rename_axis("id")}, [])


def test_clusters_of_large_ids_are_found_as_those_of_small_ones() -> None:
    large = 1 << 24
    table = pd.DataFrame({"cluster_id": [large + 5, 2, large]})
    found = _insertion("e", "a", spikes(large, 2, large + 5, 2) | {"units": table}, [])
    assert found.clusters.tolist() == [2, 1, 0, 1]
    with pytest.raises(SessionError, match=r"spikes of cluster 4, which is not among the 3 units"):
        _insertion("e", "a", spikes(large, 4) | {"units": table}, [])


@pytest.mark.parametrize(
    ("ids", "said"),
    [([1, 1], "every one once"), ([-1, 2], "whole numbers from 0"), ([0.5, 1], "whole numbers"),
     ([], "no units")],
)  # fmt: skip
def test_ids_that_are_none(ids: list[float], said: str) -> None:
    table = pd.DataFrame({"cluster_id": ids})
    with pytest.raises(SessionError, match=said):
        _insertion("e", "a", spikes(1) | {"units": table}, [])


@pytest.mark.parametrize("limit", [0.0, 1.0])
def test_scores_of_quality_are_from_0_to_1(limit: float) -> None:
    table = pd.DataFrame({"cluster_id": [0, 1], "label": [limit, np.nan]})
    kept = _insertion("e", "a", spikes(0) | {"units": table}, []).units["label"]
    np.testing.assert_array_equal(kept, [limit, np.nan])
    beyond = table.assign(label=[limit + (0.01 if limit else -0.01), 0.5])
    with pytest.raises(SessionError, match="expected scores from 0 to 1"):
        _insertion("e", "a", spikes(0) | {"units": beyond}, [])


def test_noise_is_left_out_and_words_that_mean_nothing_are_told() -> None:
    notes: list[str] = []
    units = pd.DataFrame({"cluster_id": [4, 5, 6, 7], "label": [" Good", "noise", "nice", None]})
    given = spikes(4, 5, 5, 6, 7)
    found = without_noise("probe a", given["times"], given["clusters"], units, notes)
    assert found["units"]["cluster_id"].tolist() == [4, 6, 7]
    assert found["units"]["label"].tolist() == ["good", "unsorted", ""]
    assert found["clusters"].tolist() == [4, 6, 7]
    assert found["times"].tolist() == [1.5, 4.5, 5.5]
    assert "probe a: 1 clusters are noise, and left out" in notes
    assert "probe a: quality 'nice' is none of good, mua, noise; label is NaN" in notes
    notes.clear()
    without_noise("probe a", given["times"], given["clusters"], units.assign(label="mua"), notes)
    assert notes == []


@pytest.mark.parametrize(
    ("own", "given", "used", "noted"),
    [("30000.", None, 30000, False), ("30000.", 25000, 25000, True), ("25000", 25000, 25000, False),
     ("'fast'", 25000, 25000, False)],
)  # fmt: skip
def test_a_sampling_rate_of_the_source_counts_and_another_of_the_folder_is_told(
    tmp_path: Path, own: str, given: float | None, used: float, noted: bool
) -> None:
    samples = write_probe(tmp_path)
    kept = samples[samples[:, 1] != 40, 0]  # noise
    (tmp_path / "params.py").write_text(f"sample_rate = {own}\n")
    notes: list[str] = []
    found = _read_probe("e", "imec0", tmp_path, given, notes)
    assert found["times"][-1] == pytest.approx(kept.max() / used)
    told = "probe imec0: sampling_rate 25000, though params.py has 30000"
    assert (told in notes) == noted
    assert any("sampling_rate" in note for note in notes) == noted


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda a: np.stack([a[:, 0]] * 2, axis=1), "expected one number per spike"),
        (lambda a: np.full(len(a), "1"), "expected one number per spike"),
        (lambda a: a > 500, "expected one number per spike"),
        (lambda a: a[:, 0].astype(np.int32), None),
        (lambda a: a[:, 0].astype(float), None),
        (lambda a: a[:, 0] + 0.5, "no whole samples; are these seconds"),
        (lambda a: a[:, 0] + 0.5 * (np.arange(len(a)) == 9), "no whole samples"),
        (lambda a: a[:-1], "7999 times but 8000 clusters"),
    ],
)  # fmt: skip
def test_times_of_spikes_are_one_whole_number_for_each(
    tmp_path: Path, change: Any, told: str | None
) -> None:
    kept = write_probe(tmp_path)
    file = tmp_path / "spike_times.npy"
    np.save(file, change(np.load(file)))
    if told is None:
        found = _read_probe("e", "imec0", tmp_path, None, [])
        assert found["times"][-1] == pytest.approx(kept[kept[:, 1] != 40, 0].max() / 25000)
    else:
        with pytest.raises(SessionError, match=told) as error:
            _read_probe("e", "imec0", tmp_path, None, [])
        assert str(tmp_path) in str(error.value)


WORDS = {
    "cluster_info.tsv": ("group", "good"),
    "cluster_group.tsv": ("group", "mua"),
    "cluster_groups.csv": ("group", "good"),
    "cluster_KSLabel.tsv": ("KSLabel", "mua"),
}


@pytest.mark.parametrize("files", [[], *([*WORDS][n:] for n in range(len(WORDS)))])
def test_of_tables_of_quality_the_first_counts_and_none_is_told(
    tmp_path: Path, files: list[str]
) -> None:
    write_probe(tmp_path, ids=(3, 11))
    for table in tmp_path.glob("*.tsv"):
        table.unlink()
    for name in files:
        column, word = WORDS[name]
        (tmp_path / name).write_text(f"cluster_id\t{column}\n3\tunsorted\n11\t{word}\n")
    notes: list[str] = []
    units = _read_probe("e", "imec0", tmp_path, None, notes)["units"]
    told = "probe imec0: no cluster_group.tsv or cluster_info.tsv; label is NaN"
    assert (told in notes) == (not files)
    if files:
        assert units["label"].tolist()[1] == WORDS[files[0]][1]
    assert not any("spike_clusters" in note for note in notes)


def test_a_folder_that_tells_no_sampling_rate(tmp_path: Path) -> None:
    write_probe(tmp_path)
    for text in ("x = 1\n", "sample_rate = 0\n", "sample_rate = 'fast'\n"):
        (tmp_path / "params.py").write_text(text)
        with pytest.raises(SessionError, match="tells no sample_rate; give 'sampling_rate'"):
            _read_probe("e", "imec0", tmp_path, None, [])


def test_clusters_of_no_channel_and_probes_without_spikes_are_told(tmp_path: Path) -> None:
    write_session(tmp_path / "s")
    folder = tmp_path / "s"
    np.save(folder / "clusters.peakChannel.npy", np.array([0, 2, 3, 4, 7, 5, 6.0])[:, None])
    clusters = np.load(folder / "spikes.clusters.npy")
    np.save(folder / "spikes.clusters.npy", clusters % 3)  # all on the first probe
    notes: list[str] = []
    found = _probes("e", folder, notes)
    assert list(found) == ["probe00"]
    assert "clusters.peakChannel: 2 are of no channel; no region" in notes
    assert "probe01: no spikes" in notes
    assert found["probe00"]["units"]["region"].tolist() == [None, "CA1", "root"]
    assert found["probe00"]["units"]["channel"].tolist() == [-1, 1, 2]
