"""Who is evaluated: by recording, by what a file says, by animal."""

from ibl_mtm.brainsets.evaluated import evaluated_among
from ibl_mtm.brainsets.layout import EVAL_RECORDING_IDS


def test_recordings_animals_and_the_animals_of_recordings() -> None:
    listed = EVAL_RECORDING_IDS[3]
    found = evaluated_among(
        {
            "a": "mouse_1",
            listed: "mouse_2",
            "b": "mouse_2",  # another session of that animal
            "c": "KS014",  # known without its recordings
            "d": "mouse_3",
            "e": "mouse_3",
            "f": "",
        },
        {"d": "eval", "a": "pretrain"},
    )
    assert found == {
        listed: "one of the recordings that are evaluated",
        "b": "of mouse_2, an animal that is evaluated",
        "c": "of KS014, an animal that is evaluated",
        "d": "its file is for evaluation",
        "e": "of mouse_3, an animal that is evaluated",
    }


def test_a_session_without_an_animal_is_nobodys() -> None:
    assert evaluated_among({EVAL_RECORDING_IDS[0]: "", "x": ""}) == {
        EVAL_RECORDING_IDS[0]: "one of the recordings that are evaluated"
    }
