"""Counts are exact, whatever the edges; behaviour is read on the same grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ibl_mtm.ingest.align import (
    bin_edges,
    contiguous_starts,
    count_from_start,
    count_spikes,
    covered,
    sample,
)


def count_one_by_one(times, clusters, n_clusters, events, start, bin_size, n_bins):
    """Ask every spike, of every bin of every trial, whether it lies within."""
    counts = np.zeros((len(events), n_bins, n_clusters), dtype=np.int64)
    for trial, event in enumerate(events):
        edges = [event + start + k * bin_size for k in range(n_bins + 1)]
        for t, cluster in zip(times, clusters, strict=True):
            for k in range(n_bins):
                if edges[k] <= t < edges[k + 1]:
                    counts[trial, k, cluster] += 1
    return counts


@st.composite
def sessions(draw):
    """Spikes on bin edges, or one rounding step beside, and windows that overlap."""
    bin_size = draw(st.sampled_from([0.02, 0.01, 0.1, 1 / 3, 0.125]))
    n_bins = draw(st.integers(1, 8))
    start = draw(st.sampled_from([-0.5, 0.0, 0.3, -0.06]))
    events = draw(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=5))
    n_clusters = draw(st.integers(1, 5))
    edge = st.builds(
        lambda event, k, nudge: np.nextafter(event + start + k * bin_size, nudge),
        st.sampled_from(events),
        st.integers(0, n_bins),
        st.sampled_from([-np.inf, 0.0, np.inf]),
    )
    exact = st.builds(
        lambda event, k: event + start + k * bin_size,
        st.sampled_from(events),
        st.integers(0, n_bins),
    )
    times = draw(st.lists(st.one_of(edge, exact, st.floats(-1, 5)), max_size=40))
    # The last cluster is left silent: a unit without spikes still has its column.
    clusters = draw(
        st.lists(st.integers(0, max(0, n_clusters - 2)), min_size=len(times), max_size=len(times))
    )
    return (
        np.sort(times),
        np.array(clusters, dtype=np.uint16),
        n_clusters,
        events,
        start,
        bin_size,
        n_bins,
    )


@settings(max_examples=150, deadline=None)
@given(sessions())
def test_counts_equal_a_count_one_by_one(session):
    times, clusters, n_clusters, events, start, bin_size, n_bins = session
    edges = bin_edges(np.array(events), start, bin_size, n_bins)
    counts = count_spikes(times.astype(np.float64), clusters, n_clusters, edges)
    assert counts.dtype == np.uint8
    assert (counts == count_one_by_one(*session)).all()
    inside = [((times >= row[0]) & (times < row[-1])).sum() for row in edges]
    assert (counts.sum(axis=(1, 2), dtype=np.int64) == inside).all()


def test_spikes_on_edges_where_a_division_would_round_across():
    events = np.array([3.0, 1234.567])
    edges = bin_edges(events, -0.5, 0.02, 100)
    for trial, event in enumerate(events):
        spikes = edges[trial, :-1]  # one on the left edge of every bin
        by_division = ((spikes - (event - 0.5)) / 0.02).astype(int)
        assert (by_division != np.arange(100)).sum() > 10
        counts = count_spikes(spikes, np.zeros(100, dtype=int), 1, edges[[trial]])
        assert (counts == 1).all()


@pytest.mark.parametrize(
    ("n_spikes", "dtype"), [(255, np.uint8), (256, np.uint16), (65535, np.uint16)]
)
def test_large_counts_widen_and_never_wrap(n_spikes, dtype):
    edges = bin_edges(np.array([0.0, 1.0]), 0.0, 0.5, 2)
    times = np.sort(np.r_[0.1, np.full(n_spikes, 1.25)])
    counts = count_spikes(times, np.zeros(len(times), dtype=np.uint8), 1, edges)
    assert counts.dtype == dtype
    assert counts[..., 0].tolist() == [[1, 0], [n_spikes, 0]]


def test_counts_that_fit_no_dtype_are_refused():
    edges = bin_edges(np.array([0.0]), 0.0, 1.0, 1)
    with pytest.raises(ValueError, match="65536 spikes of one cluster in one bin"):
        count_spikes(np.full(65536, 0.5), np.zeros(65536, dtype=int), 1, edges)


@given(
    first=st.floats(0, 100),
    duration=st.floats(0, 50),
    length=st.sampled_from([0.5, 1.0, 2.0, 3.3]),
)
def test_contiguous_windows_fill_the_recording(first, duration, length):
    last = first + duration
    starts = contiguous_starts(first, last, length)
    # One more or less where the sum was rounded; what matters is that they lie within.
    whole = (last - first) / length
    assert whole - 1 - 1e-9 <= len(starts) <= whole + 1e-9
    assert (starts >= first).all()
    assert (starts + length <= last).all()
    assert np.allclose(np.diff(starts), length)


def test_windows_must_lie_within_the_recording_of_every_probe():
    edges = bin_edges(np.array([0.5, 2.0, 5.0, 9.0]), -0.5, 0.5, 4)
    assert covered(edges, [(0.0, 20.0)]).tolist() == [True] * 4
    assert covered(edges, [(0.0, 20.0), (0.1, 10.0)]).tolist() == [False, True, True, False]


class TestSample:
    edges = bin_edges(np.array([10.0, 20.0]), -0.5, 0.02, 100)
    centres = (edges[:, 1:] + edges[:, :-1]) / 2

    def test_a_line_is_read_exactly(self):
        times = np.arange(0, 40, 1 / 60)
        read = sample(times, 3 * times - 7, self.edges, longest_gap=0.02)
        assert read.dtype == np.float32
        np.testing.assert_allclose(read, 3 * self.centres - 7, rtol=1e-6)

    def test_a_slow_wave_is_read_between_its_samples(self):
        times = np.sort(np.random.default_rng(0).uniform(0, 40, 40 * 150))
        read = sample(times, np.sin(times), self.edges)
        np.testing.assert_allclose(read, np.sin(self.centres), atol=1e-3)

    def test_a_gap_is_missing_where_no_sample_falls(self):
        times = np.arange(0, 40, 1 / 60)
        times = times[(times < 10.1) | (times > 10.5)]
        read = sample(times, np.ones_like(times), self.edges, longest_gap=0.02)
        last, following = times[times < 10.1].max(), times[times > 10.5].min()
        without = (self.edges[:, :-1] > last) & (self.edges[:, 1:] <= following)
        assert (np.isnan(read) == without).all()
        assert without.sum() == 20

    def test_before_the_first_and_after_the_last_sample(self):
        times = np.arange(10.0, 20.0, 0.01)
        read = sample(times, np.ones_like(times), self.edges, outside=0.0)
        assert (read[0] == (self.edges[0, 1:] > 10.0)).all()
        assert (read[1] == (self.edges[1, :-1] <= times[-1])).all()
        assert np.isnan(sample(times, times, self.edges)[0, 0])

    def test_no_samples_at_all(self):
        assert np.isnan(sample(np.empty(0), np.empty(0), self.edges)).all()


@pytest.mark.parametrize("clusters", [[0, 1, 3], [0, -1, 2]])
def test_a_cluster_beyond_the_units_is_never_counted_as_another(clusters):
    """Cluster n of n would be unit 0 of the next bin."""
    edges = bin_edges(np.array([0.0]), 0.0, 0.5, 4)
    starts = edges[:, 0]
    for count, bins in ((count_spikes, (edges,)), (count_from_start, (starts, 0.5, 4))):
        with pytest.raises(ValueError, match="of 3"):
            count(np.array([0.1, 0.6, 1.1]), np.array(clusters), 3, *bins)
        with pytest.raises(ValueError, match="3 times but 2 clusters"):
            count(np.array([0.1, 0.6, 1.1]), np.array([0, 1]), 3, *bins)


def test_a_last_window_that_just_fits_is_kept():
    assert contiguous_starts(0.0, 10.0, 2.0).tolist() == [0, 2, 4, 6, 8]
    assert contiguous_starts(0.0, 9.99, 2.0).tolist() == [0, 2, 4, 6]
    assert contiguous_starts(1.0, 2.9, 2.0).tolist() == []


def test_windows_at_the_very_edge_of_a_recording_are_covered():
    edges = bin_edges(np.array([1.0, 2.0, 3.0]), 0.0, 0.5, 2)
    assert covered(edges, [(1.0, 4.0)]).tolist() == [True, True, True]
    assert covered(edges, [(1.0, 4.0), (1.5, 3.9)]).tolist() == [False, True, False]
