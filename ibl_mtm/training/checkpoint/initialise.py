"""Start a model from a trained one: what both know is taken over, everything else is reported.

model = build_model(settings, sessions, format)
report = initialise(model, load_model("runs/pretrained"), "runs/pretrained")
report.units.matched, report.units.new, report.units.left_out
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM

__all__ = ["InitReport", "Match", "initialise"]

logger = logging.getLogger(__name__)

#: Settings that change how a model is trained, not what its weights mean.
_FREE = {
    "input_dropout",
    "dropout",
    "attention_dropout",
    "dropout_at",
    "bias",
    "start_as_identity",
    "t_fixup",
    "embedding_std",
    "stitcher_bias",
    "dynamics",
    "drift",
    "leading_tokens_see_all",
    "modalities",  # but none may be missing that the body was trained with
}


@dataclass(frozen=True)
class Match:
    """Names that the new and the trained model share, only the new one has, only the old one has.

    A matched name has the trained row; a new one its own fresh row; what is left out of the new
    model stays in the trained one.
    """

    matched: tuple[str, ...]
    new: tuple[str, ...]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, new: Iterable[str], trained: Iterable[str]) -> "Match":
        """Compare two lists of names, each in its own order."""
        new, trained = tuple(new), tuple(trained)
        in_new, in_trained = set(new), set(trained)
        return cls(
            tuple(name for name in new if name in in_trained),
            tuple(name for name in new if name not in in_trained),
            tuple(name for name in trained if name not in in_new),
        )

    def counts(self) -> dict[str, int]:
        """How many of each."""
        return {name: len(names) for name, names in vars(self).items()}


@dataclass(frozen=True)
class InitReport:
    """What a model took over from a trained one.

    Attributes
    ----------
    source
        Where the trained model comes from.
    units, sessions, regions
        Names of the rows.
    modalities
        Of models that have some.
    """

    source: str
    units: Match
    sessions: Match
    regions: Match
    modalities: Match | None = None

    @property
    def kinds(self) -> dict[str, Match]:
        """What is compared, by what to call it."""
        kinds = {"units": self.units, "sessions": self.sessions, "regions": self.regions}
        return kinds if self.modalities is None else {**kinds, "modalities": self.modalities}

    def counts(self) -> dict[str, Any]:
        """Numbers of names, as plain Python."""
        return {"from": self.source, **{k: match.counts() for k, match in self.kinds.items()}}

    def lines(self) -> list[str]:
        """The same in words."""
        counts = self.counts()
        return [
            f"{kind} taken over from {self.source}: {{matched}}, new: {{new}}, "
            "left out: {left_out}".format(**counts[kind])
            for kind in self.kinds
        ]


@torch.no_grad()
def initialise(model: MtM, trained: MtM, source: str) -> InitReport:
    """Copy a trained model's weights into a new one, rows by name.

    The transformer and its tokens are taken as they are. A unit, session or region that both
    know keeps its trained rows, with the centre and scale that its input was trained under; new
    sessions begin at the mean of the trained ones. Modalities that the trained model did not know
    get fresh read-ins and read-outs.

    Parameters
    ----------
    model
        New (see `build_model`); changed in place.
    trained
        What to start from.
    source
        Its name, for messages.

    Raises
    ------
    UserError
        If the two differ in a setting that gives weights their meaning, or in the format of
        their trials.
    """
    _check_alike(model, trained, source)
    report = InitReport(
        source,
        Match.of(model.scope.units, trained.scope.units),
        Match.of(model.scope.sessions, trained.scope.sessions),
        Match.of(model.scope.regions, trained.scope.regions),
        Match.of(model.names_of_modalities, trained.names_of_modalities)
        if model.settings.modalities
        else None,
    )
    own, old = model.state_dict(), trained.state_dict()
    units = _rows(report.units.matched, model.scope.units, trained.scope.units)
    sessions = _rows(report.sessions.matched, model.scope.sessions, trained.scope.sessions)
    regions = _rows(report.regions.matched, model.scope.regions, trained.scope.regions)
    for name, tensor in own.items():
        # Scores are against the mean of the trials at hand; what is fitted last is fitted to them.
        if name == "null_log_rate" or name.startswith(("dynamics_", "encoding_")):
            continue
        if name not in old:  # of modalities, of which the trained model has none
            continue
        if name in MtM.UNIT_TABLES:
            _copy_rows(tensor, old[name], units)
        elif name in MtM.BEHAVIOUR_TABLES:
            here, there = _columns(name, model, trained)
            for to, row in zip(*sessions, strict=True):  # a new session has a scale of its own
                tensor[to, here] = old[name][row, there]
        elif name.startswith("modalities."):
            here, there = _columns(name, model, trained)
            if name == "modalities.when":
                tensor[:, here] = old[name][:, there]
            else:
                tensor[here] = old[name][there]
        elif name in MtM.SESSION_TABLES:
            if len(old[name]):  # of an imported body there are none
                tensor.copy_(old[name].mean(0).expand_as(tensor))
            _copy_rows(tensor, old[name], sessions)
        elif name == "region_token":
            _copy_rows(tensor, old[name], regions)
        else:
            tensor.copy_(old[name])
    return report


def _columns(name: str, model: MtM, trained: MtM) -> tuple[Tensor, Tensor]:
    """Places of the modalities that both know, in a tensor of traces, of classes, or of both."""
    lists = []
    for each in (model, trained):
        traces, classes = each.modalities.traces, each.modalities.classes
        of_classes = ("modalities.class_", "modalities.query", "modalities.when")
        if name == "behaviour_null":
            lists.append((*traces, *classes))
        elif name == "behaviour_log_odds" or name.startswith(of_classes):
            lists.append(classes)
        else:
            lists.append(traces)
    both = tuple(name for name in lists[0] if name in lists[1])
    return _rows(both, lists[0], lists[1])


def _check_alike(model: MtM, trained: MtM, source: str) -> None:
    new, old = model.scope.trial_format, trained.scope.trial_format
    if new.alignment != old.alignment and "contiguous" not in (new.alignment, old.alignment):
        logger.warning(
            "%s was trained on trials aligned to %s, these are aligned to %s: its time bins mean "
            "something else here",
            source,
            old.alignment,
            new.alignment,
        )
        old = replace(old, alignment=new.alignment)
    if new != old:
        raise UserError(
            f"{source} was trained on trials of another format: {trained.scope.trial_format}, "
            f"not {model.scope.trial_format}; ingest the sessions with the model's"
        )
    here, there = model.settings.model_dump(), trained.settings.model_dump()
    free = _FREE | ({"shared_token"} if here["prompt"] and there["prompt"] else set())
    if here["leading_tokens_see_all"] != there["leading_tokens_see_all"]:
        logger.warning(
            "%s was trained with model.leading_tokens_see_all=%s: under causal attention this one "
            "begins with what its weights were not trained for",
            source,
            str(there["leading_tokens_see_all"]).lower(),
        )
    for key in here:
        if key not in free and here[key] != there[key]:
            raise UserError(
                f"{source} was trained with model.{key}={there[key]}, not {here[key]}; "
                f"set model.{key}={there[key]} to start from it"
            )
    known, asked = trained.names_of_modalities, model.names_of_modalities
    if missing := [name for name in known if name not in asked]:
        raise UserError(
            f"{source} was trained with {', '.join(missing)} among model.modalities; set "
            f"model.modalities=[{', '.join(dict.fromkeys((*known, *asked)))}] to start from it"
        )
    maps = model.scope.region_map, trained.scope.region_map
    if model.settings.prompt_region and maps[0] != maps[1]:
        raise UserError(
            f"{source} names regions by data.regions={maps[1]}, not {maps[0]}; "
            f"set data.regions={maps[1]} to start from it"
        )


def _rows(
    matched: tuple[str, ...], new: tuple[str, ...], trained: tuple[str, ...]
) -> tuple[Tensor, Tensor]:
    """Rows of the matched names in the new and in the trained model."""
    where = [{name: row for row, name in enumerate(names)} for names in (new, trained)]
    here, there = (
        torch.tensor([rows[name] for name in matched], dtype=torch.long) for rows in where
    )
    return here, there


def _copy_rows(table: Tensor, trained: Tensor, rows: tuple[Tensor, Tensor]) -> None:
    here, there = rows
    table[here] = trained[there]
