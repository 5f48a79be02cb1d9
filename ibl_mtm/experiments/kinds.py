"""The kinds of results: what each is called, and which row of its table a run counts to.

kind = kind_of("scaling")
kind.title, [row_of(kind, run) for run in runs]
"""

from dataclasses import dataclass

from ibl_mtm.errors import UserError
from ibl_mtm.experiments.read import Replicate

__all__ = ["KINDS", "Kind", "kind_of", "row_of"]


@dataclass(frozen=True)
class Kind:
    """One of the experiments.

    Attributes
    ----------
    name, title
        As a user types it, and as a heading.
    question
        What it asks, in a sentence or two.
    """

    name: str
    title: str
    question: str


KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            "sessions",
            "Real sessions",
            "Real sessions of several mice, each with models of its own. Baselines are fitted to "
            "the same units and trials.",
        ),
        Kind(
            "ablation",
            "Masking ablation",
            "One training for each masking scheme alone, for all schemes together with and "
            "without prompts (MtM), and for temporal masking, on one session at a time. Each is "
            "asked for four predictions on test trials.",
        ),
        Kind(
            "generalization",
            "New animals",
            "Models trained on many animals are fine-tuned on the training trials of an animal "
            "that they have not seen, and compared with the same models trained on those trials "
            "from scratch.",
        ),
        Kind(
            "scaling",
            "More animals",
            "The same model, trained on more and more animals, then fine-tuned on animals that "
            "are in none of these trainings. No animals: trained from scratch.",
        ),
        Kind(
            "recording",
            "A real recording",
            "A short recording of one probe, in contiguous windows, under several random splits. "
            "The baseline is fitted to the same units and windows.",
        ),
    )
}
"""By name."""


def kind_of(name: str) -> Kind:
    """Look a kind up; an unknown name raises a UserError that lists the known ones."""
    if name not in KINDS:
        raise UserError(f"unknown kind of results '{name}'; known: {', '.join(KINDS)}")
    return KINDS[name]


def row_of(kind: Kind, run: Replicate) -> str:
    """The row of the table that a run counts to."""
    if kind.name not in ("generalization", "scaling") or run.is_baseline:
        return run.series
    if not run.pretrained:
        return f"{run.series}, from scratch"
    animals = "1 animal" if run.animals == 1 else f"{run.animals} animals"
    return f"{run.series}, pre-trained on {animals}"
