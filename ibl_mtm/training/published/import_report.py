"""What importing a published checkpoint found: for ``--json``, and in words.

report = import_published(file, run, units=units)
report.to_json(), report.lines(published, has_cache=True)
"""

from dataclasses import asdict, dataclass
from typing import Any

from ibl_mtm.sessions.text import counted
from ibl_mtm.training.published.convert import Published

__all__ = ["ImportReport"]


@dataclass(frozen=True)
class ImportReport:
    """What `ibl-mtm import-published --json` prints.

    Attributes
    ----------
    run, file
        The folder that was made, and what of.
    sha256
        Digest of the file.
    n_parameters, n_units
        Of the model.
    sessions
        That it knows units of.
    left_out
        Sessions that the file has a token for and no units were given of.
    schemes
        That it was trained with.
    scores
        Bits/spike on validation trials, by session, where a cache was given.
    correlations
        Of the units' mean predicted log counts there with the log of their mean counts in
        training: near 1 in the right order, near 0 in any other.
    below_mean
        Sessions that score below 0, which is what each unit's mean scores.
    unlike
        Sessions of which the correlation is below 0.5.
    """

    run: str
    file: str
    sha256: str
    n_parameters: int
    n_units: int
    sessions: list[str]
    left_out: list[str]
    schemes: list[str]
    scores: dict[str, float]
    correlations: dict[str, float]
    below_mean: list[str]
    unlike: list[str]

    def to_json(self) -> dict[str, Any]:
        """As plain Python."""
        return asdict(self)

    def lines(self, published: Published, has_cache: bool) -> list[str]:
        """The same in words, with what a user should know."""
        n_sessions = len(self.sessions)
        lines = [
            f"{self.file}: {counted(n_sessions, 'session')} of {len(published.eids)}, "
            f"{counted(self.n_units, 'unit')}, {self.n_parameters:,} parameters"
        ]
        if not n_sessions:
            return [*lines, "the body alone: its tokens and layers, no stitchers"]
        for eid, score in self.scores.items():
            lines.append(
                f"session {eid}: {score:+.3f} bits/spike on validation trials; rates of units "
                f"correlate with their mean counts by {self.correlations[eid]:.2f}"
            )
            signs = ["scores below the units' means"] * (eid in self.below_mean)
            signs += ["predicts other rates than its units have"] * (eid in self.unlike)
            if signs:
                lines.append(
                    f"WARNING: session {eid} {' and '.join(signs)}: its units stand in another "
                    "order in --units than in the published recording, or its trials are other ones"
                )
        n = n_sessions - len(self.scores)
        if not has_cache:
            lines.append(
                "WARNING: nothing was scored: a wrong order of units raises no error anywhere; "
                "--cache CACHE tells"
            )
        elif n:
            lines.append(f"{counted(n, 'session')} not scored: no validation trials in the cache")
        lines.append(
            "which trials trained it stands in no file: test scores of these sessions are held out "
            "only if the cache has the published split"
        )
        return lines
