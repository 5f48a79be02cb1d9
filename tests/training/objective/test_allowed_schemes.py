"""Which sessions a training takes under its schemes, and what is said of one that it does not."""

from types import SimpleNamespace

import numpy as np
import pytest

from ibl_mtm.errors import UserError
from ibl_mtm.training.objective.schemes import (
    check_schemes,
    has_behaviour,
    missing_modalities,
)
from ibl_mtm.training.settings import MaskSettings

NAMES = ("choice", "wheel_speed", "lick_rate")


def session_of(regions="CA1 CA1 DG", null=None, is_there=True, eid="e1"):
    """Regions of units, ``-`` for none; what is known of each trace, then of each class."""
    behaviour = None
    if null is not None:
        statistics = SimpleNamespace(null=np.array(null))
        behaviour = SimpleNamespace(statistics=statistics, is_there=is_there)
    region = np.array([name.strip("-") for name in regions.split()])
    return SimpleNamespace(eid=eid, region=region, behaviour=behaviour)


WITH = {"null": [0.5, 0.2, 0.7]}


@pytest.mark.parametrize(
    ("schemes", "session", "told"),
    [
        ({"neuron": 1}, {"regions": "- -"}, None),
        ({"neuron": 0.2, "inter_region": 5}, {"regions": "- -"}, None),
        ({"neuron": 0, "inter_region": 1}, {"regions": "DG - DG"}, None),
        ({"intra_region": 0.5}, {"regions": "DG DG"}, None),
        (
            {"neuron": 0, "intra_region": 1, "inter_region": 2},
            {"regions": "- - -"},
            "allows none of masks.schemes (intra_region, inter_region): it has no region with "
            "data.min_units_per_region=7 units; lower that, or leave the session out with --where",
        ),
        (
            {"inter_region": 1},
            {"regions": "DG DG"},
            "(inter_region): it has only DG with data.min_units_per_region=7 units",
        ),
        ({"decoding": 1}, WITH, None),
        ({"decoding": 1, "neuron": 1}, {}, None),
        (
            {"decoding": 1, "encoding": 1},
            {},
            "(decoding, encoding): it has none of model.modalities; add a scheme of activity, or "
            "leave the session out with --where",
        ),
        (
            {"decoding": 1},
            WITH | {"is_there": False},
            "(decoding): it has none of model.modalities",
        ),
        (
            {"decoding": 1, "inter_region": 1},
            {"regions": "DG DG"},
            "(decoding, inter_region): it has none of model.modalities",
        ),
    ],
)
def test_each_session_must_allow_some_scheme(schemes, session, told):
    masks, fine = MaskSettings(schemes=schemes), session_of("CA1 DG -", **WITH, eid="e0")
    sessions = [fine, session_of(**session)]
    if told is None:
        check_schemes(sessions, masks, minimum=7)
        return
    check_schemes(sessions[:1], masks, minimum=7)
    with pytest.raises(UserError) as error:
        check_schemes(sessions, masks, minimum=7)
    assert str(error.value).startswith("session e1 allows none of masks.schemes (")
    assert told in str(error.value)


def test_a_session_has_behaviour_where_any_of_it_is_there():
    assert not has_behaviour(session_of())
    assert has_behaviour(session_of(**WITH))
    assert not has_behaviour(session_of(**WITH, is_there=False))


@pytest.mark.parametrize(
    ("nulls", "lines"),
    [
        ([[0.5, 0.2, 0.7], [0.1, 0.3, 0.9]], []),
        (
            [[0.5, 0.0, 0.7], [0.1, 0.3, 0.0], [0.2, 0.0, 0.9]],
            ["lick_rate: in 1 of 3 sessions", "choice: in 2 of 3 sessions"],
        ),
        (
            [None, [0.5, 0.2, 0.0]],
            ["wheel_speed: in 1 of 2 sessions", "lick_rate: in 1 of 2 sessions",
             "choice: in 0 of 2 sessions"],
        ),
        ([None], [f"{name}: in 0 of 1 sessions" for name in (*NAMES[1:], "choice")]),
    ],
)  # fmt: skip
def test_modalities_that_not_every_session_has_are_told(nulls, lines):
    """Traces before classes, as everywhere."""
    found = missing_modalities([session_of(null=null) for null in nulls], NAMES)
    assert found == [f"{line}; masked in the others" for line in lines]
