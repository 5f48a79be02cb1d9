"""The server that stands for an Alyx database in tests."""

import json

from alyx_server import TAG


class TestTheServer:
    """Its answers have the shape of those recorded from a real Alyx."""

    def test_a_session(self, server, experiment, shared_data):
        recorded = json.loads((shared_data / "alyx_responses/session_detail_A.json").read_text())
        ours = server.session(experiment.eids[0])
        assert set(ours) == set(recorded)
        for key in ("data_dataset_session_related", "probe_insertion"):
            assert set(ours[key][0]) == set(recorded[key][0])
            for field, value in recorded[key][0].items():
                if value is not None and field != "json":
                    assert type(ours[key][0][field]) is type(value), field

    def test_lists(self, server, experiment, shared_data):
        recorded = json.loads((shared_data / "alyx_responses/insertions_by_tag.json").read_text())
        ours = server.answer("/insertions", {"django": f"datasets__tags__name,{TAG}"})
        assert set(ours) == set(recorded)
        assert set(ours["results"][0]) == set(recorded["results"][0])
        path = shared_data / "alyx_responses/datasets_of_session_A.json"
        recorded = json.loads(path.read_text())["results"][0]
        query = {"session": experiment.eids[0], "tag": TAG}
        assert set(server.answer("/datasets", query)["results"][0]) <= set(recorded)
