"""Which animals BrainWideBench evaluates models on: none of them may be in pre-training.


    evaluated_among({eid: subject for eid, subject in table})    # eid -> the reason

The recordings are listed by the benchmark, the animals are not: those are theirs that public
listings name. Whoever meets a listed recording learns its animal, and so of the animal's others.
"""

from collections.abc import Mapping

from ibl_mtm.brainsets.layout import EVAL_RECORDING_IDS

__all__ = ["EVAL_SUBJECTS", "evaluated_among"]

EVAL_SUBJECTS = frozenset(
    {
        "KS014",
        "NR_0024",
        "NR_0028",
        "NYU-11",
        "NYU-30",
        "ZFM-02373",
        "ibl_witten_26",
    }
)
"""Animals of evaluated recordings, as far as known without their files."""

_RECORDINGS = frozenset(EVAL_RECORDING_IDS)


def evaluated_among(
    subjects: Mapping[str, str], regimes: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Sessions of animals that the benchmark evaluates, and why each is one.

    Parameters
    ----------
    subjects
        The animal of each session, by eid; empty where it is not known.
    regimes
        What the sessions' files say they are for (`eval`, `pretrain`), where they say it.

    Returns
    -------
    eid -> reason, in a few words.
    """
    regimes = regimes or {}
    reasons = {}
    for eid in subjects:
        if eid in _RECORDINGS:
            reasons[eid] = "one of the recordings that are evaluated"
        elif regimes.get(eid) == "eval":
            reasons[eid] = "its file is for evaluation"
    animals = EVAL_SUBJECTS | {subjects[eid] for eid in reasons if subjects[eid]}
    for eid, subject in subjects.items():
        if subject in animals:
            reasons.setdefault(eid, f"of {subject}, an animal that is evaluated")
    return reasons
