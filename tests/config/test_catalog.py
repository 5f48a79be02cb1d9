"""The catalog: what it accepts, its defaults, and how it tells what is wrong."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydantic import ValidationError

from ibl_mtm.config.catalog import Catalog, load_catalog
from ibl_mtm.config.dataset import Align, Dataset, Split
from ibl_mtm.config.sources import AlyxSource, LocalSource, SimulatedSource
from ibl_mtm.errors import UserError

EID = "0b9a5c1e-6b3a-4c53-8d0e-0c7c0a9e8f21"


def read(tmp_path: Path, text: str) -> Catalog:
    path = tmp_path / "data_catalog.yaml"
    path.write_text(text)
    return load_catalog(path)


def one(tmp_path: Path, text: str):
    indented = "\n".join(f"    {line}" for line in text.strip().splitlines())
    return read(tmp_path, f"datasets:\n  mine:\n{indented}\n").dataset("mine")


LOCAL = "source: {kind: local, path: ONE}\n"


def test_the_shipped_catalog_has_a_demo():
    source = load_catalog().dataset("demo").source
    assert isinstance(source, SimulatedSource)


class TestRepeatedSite:
    """The shipped entries name the sessions of the public release."""

    def test_all_sessions_of_the_release_and_the_roles_of_the_paper(self, shared_data):
        listed = pd.read_csv(shared_data / "repeated_site_insertions.csv", dtype=str).fillna("")
        expected = {row.eid: row.mtm_role or "pretrain" for row in listed.itertuples()}
        dataset = load_catalog().dataset("repeated-site")
        assert {entry.eid: entry.role for entry in dataset.sessions} == expected
        assert all(entry.pids is None for entry in dataset.sessions)  # every probe

    def test_the_paper_used_forty_of_them(self, shared_data):
        listed = pd.read_csv(shared_data / "repeated_site_insertions.csv", dtype=str).fillna("")
        expected = {row.eid: row.mtm_role for row in listed.itertuples() if row.mtm_role}
        dataset = load_catalog().dataset("repeated-site-paper")
        assert {entry.eid: entry.role for entry in dataset.sessions} == expected
        assert sorted(expected.values()) == ["finetune"] * 5 + ["pretrain"] * 35

    def test_both_are_pinned_to_the_tag(self):
        for name in ("repeated-site", "repeated-site-paper"):
            source = load_catalog().dataset(name).source
            assert isinstance(source, AlyxSource)
            assert source.tag == "RepeatedSite"


ALYX = "source: {kind: alyx, url: https://alyx.lab.org/, username: me, tag: T}\n"


class TestAlyx:
    def test_addresses_lose_a_trailing_slash(self, tmp_path):
        assert one(tmp_path, ALYX).source.url == "https://alyx.lab.org"

    def test_a_path_in_the_environment_is_left_to_each_worker(self, tmp_path):
        assert one(tmp_path, ALYX.replace("tag", "path: $HERE/one, tag")).source.path == Path(
            "$HERE/one"
        )

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (ALYX.replace("https://", ""), "line 3: .*'alyx.lab.org/' is no address"),
            (ALYX.replace(", tag: T", ""), "line 2: .*a 'tag', or list the sessions"),
            (ALYX.replace("tag", "tags"), "line 3: unknown key .*tags'; did you mean 'tag'"),
        ],
    )
    def test_mistakes(self, tmp_path, text, message):
        with pytest.raises(UserError, match=message):
            one(tmp_path, text)

    def test_what_a_session_is_depends_on_the_release_not_on_how_it_is_reached(self, tmp_path):
        plain = one(tmp_path, ALYX).definition_hash(EID)
        same = ALYX.replace("username: me", "username: you, timeout: 3, attempts: 2, path: there")
        other = ALYX.replace("tag: T", "tag: T, revision: 2024-05-06")
        assert one(tmp_path, same).definition_hash(EID) == plain
        assert one(tmp_path, other).definition_hash(EID) != plain


def test_defaults_are_those_of_the_paper(tmp_path):
    dataset = one(tmp_path, LOCAL)
    assert dataset.align == Align(event="stimOn_times", window=(-0.5, 1.5), bin=0.02)
    assert dataset.align.n_bins == 100
    assert dataset.split == Split(fractions=(0.7, 0.1, 0.2), kind="random", seed=42)
    rules = dataset.trials
    assert (rules.min_reaction, rules.max_reaction, rules.max_length) == (0.08, 2.0, 10.0)
    assert dataset.sessions is None


def test_relative_paths_start_from_the_catalogs_folder(tmp_path):
    source = one(tmp_path, LOCAL).source
    assert isinstance(source, LocalSource)
    assert source.path == tmp_path / "ONE"


def test_contiguous_windows_need_no_event(tmp_path):
    align = one(tmp_path, LOCAL + "align: {contiguous: 2.0, bin: 0.02}").align
    assert (align.event, align.start, align.length, align.n_bins) == (None, 0.0, 2.0, 100)


@pytest.mark.parametrize(
    ("bin_size", "window", "n_bins"),
    [(0.02, (-0.5, 1.5), 100), (0.1, (-0.3, 0.6), 9), (0.005, (0.0, 0.6), 120)],
)
def test_windows_of_whole_bins_survive_rounding(bin_size, window, n_bins):
    assert Align(window=window, bin=bin_size).n_bins == n_bins


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("align: {window: [-0.5, 1.51]}", "line 4: .*2.01 s is no multiple of the bin"),
        ("align: {window: [1.5, -0.5]}", "line 4: .*ends before it starts"),
        ("align: {contiguous: 2.0, event: stimOn_times}", "either 'contiguous' or 'event'"),
        ("align: {bin: 0}", "line 4: .*greater than 0"),
        ("align: {bins: 0.02}", "line 4: unknown key .*bins'; did you mean 'bin'"),
        ("split: {fractions: [0.7, 0.1, 0.1]}", "line 4: .*sum to 1"),
        ("split: {fractions: [0.8, 0.0, 0.2]}", "line 4: .*positive"),
        ("split: {kind: shuffled}", "line 4: .*'random', 'blocks' or 'file'"),
        ("sessions: [{eid: somewhere}]", "line 4: .*'somewhere' is no session id"),
        (f"sessions: [{{eid: {EID}}}, {{eid: {EID}}}]", f"line 4: .*{EID} stands here twice"),
        (f"sessions: [{{eid: {EID}, role: test}}]", "line 4: .*'pretrain' or 'finetune'"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_the_mend(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        one(tmp_path, LOCAL + text)


def test_an_unknown_kind_of_source_lists_the_known_ones(tmp_path):
    with pytest.raises(UserError, match=r"line 3: .*'cloud'.*'simulated', 'local'"):
        one(tmp_path, "source: {kind: cloud}")


def test_an_unknown_dataset_lists_the_known_ones_and_the_file(tmp_path):
    catalog = read(tmp_path, f"datasets:\n  mine: {{{LOCAL.strip()}}}\n")
    with pytest.raises(UserError, match=r"'theirs' in .*data_catalog.yaml; known datasets: mine"):
        catalog.dataset("theirs")
    with pytest.raises(UserError, match="did you mean 'mine'"):
        catalog.dataset("mone")


class TestDefinition:
    """Says what a session's contents depend on, and nothing else."""

    @pytest.mark.parametrize(
        "text",
        [
            "align: {bin: 0.01}",
            "align: {event: goCue_times}",
            "align: {contiguous: 2.0}",
            "trials: {max_reaction: 1.0}",
            "split: {seed: 1}",
            "split: {kind: blocks}",
            f"sessions: [{{eid: {EID}, role: finetune}}]",
            f"sessions: [{{eid: {EID}, pids: [a]}}]",
        ],
    )
    def test_changes_with_what_changes_the_contents(self, tmp_path, text):
        plain, other = one(tmp_path, LOCAL), one(tmp_path, LOCAL + text)
        assert other.definition_hash(EID) != plain.definition_hash(EID)

    @pytest.mark.parametrize(
        "text",
        [
            LOCAL.replace("ONE", "elsewhere"),
            LOCAL + "align: {event: stimOn_times, bin: 0.02}",
            LOCAL + f"sessions: [{{eid: {EID}}}, {{eid: {EID[::-1]}, role: finetune}}]",
        ],
    )
    def test_stays_where_the_contents_stay(self, tmp_path, text):
        text = text.replace(EID[::-1], EID.replace("0", "1"))
        plain, other = one(tmp_path, LOCAL), one(tmp_path, text)
        assert other.definition_hash(EID) == plain.definition_hash(EID)

    def test_contiguous_windows_do_not_depend_on_rules_for_trials(self, tmp_path):
        text = LOCAL + "align: {contiguous: 2.0}\n"
        plain, other = one(tmp_path, text), one(tmp_path, text + "trials: {max_length: 5.0}")
        assert other.definition(EID) == plain.definition(EID)

    def test_simulated_sessions_do_not_depend_on_how_many_there_are(self):
        few, many = SimulatedSource(sessions=2), SimulatedSource(sessions=40)
        dataset = load_catalog().dataset("demo")
        definitions = [
            dataset.model_copy(update={"source": source}).definition(EID) for source in (few, many)
        ]
        assert definitions[0] == definitions[1]


def test_what_a_cache_keeps_of_an_alyx_source_is_what_it_always_was():
    """Else every cache would be another one. New settings appear only where they are used."""
    given = {"kind": "alyx", "url": "https://alyx.example.org", "username": "me", "tag": "A"}
    plain = Dataset.model_validate({"source": given | {"path": "/data", "timeout": 3}})
    kept = {"kind": "alyx", "url": "https://alyx.example.org", "tag": "A", "revision": None}
    assert plain.definition(EID)["source"] == kept
    chosen = {"untagged": "default", "leave_out": ["FAIL"]}
    assert Dataset.model_validate({"source": given | chosen}).definition(EID)["source"] == (
        kept | chosen
    )


@pytest.mark.parametrize("kind", ["brainsets", "bwm"])
def test_a_bucket_is_never_taken_for_a_folder(kind: str) -> None:
    def source(**values: Any) -> Any:
        return Dataset.model_validate({"source": {"kind": kind, **values}}).source

    given = source(path="s3://bucket/folder/")
    assert (given.path, given.url) == (None, "s3://bucket/folder")
    assert source(path="kept", url="gs://bucket").path == Path("kept")
    for values, said in (
        ({"path": "s3://a", "url": "s3://b"}, "two addresses"),
        ({"path": "https://host/x"}, "is no bucket"),
        ({"url": "gs://a", "endpoint": "http://here:9000"}, "'endpoint' is for s3://"),
    ):
        with pytest.raises(ValidationError, match=said):
            source(**values)


def test_definitions_of_bucket_sources_are_as_caches_have_kept_them() -> None:
    for values, expected in (
        (
            {"kind": "brainsets", "path": "s3://a/b", "endpoint": "http://h", "attempts": 2},
            {
                "kind": "brainsets",
                "build": "all_units",
                "regime": "pretrain",
                "version": "0.1.0",
            },
        ),
        ({"kind": "bwm", "evaluated_animals": "use"}, {"kind": "bwm", "behaviour": True}),
    ):
        source = Dataset.model_validate({"source": values}).source
        assert source.definition() == expected
