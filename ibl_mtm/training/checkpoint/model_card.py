"""The card of a model that is published: what it is, what it was trained on, how well it does.

text = model_card(model, scores)          # Markdown with the Hub's metadata on top
"""

from collections.abc import Mapping
from typing import Any

import yaml

from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.text import counted
from ibl_mtm.sessions.titles import in_text

__all__ = ["model_card"]

_CARD = """\
---
library_name: ibl-mtm
license: mit
tags:
- neuroscience
- neuropixels
- electrophysiology
- international-brain-laboratory
---

# MtM, a population model of Neuropixels recordings

A transformer that predicts the spike counts of simultaneously recorded neurons from each other,
trained by masking with the schemes {schemes}
(Zhang, Wang, Jiménez-Benetó et al., NeurIPS 2024, arXiv 2407.14668).

```python
import ibl_mtm

model = ibl_mtm.PretrainedMtM.from_pretrained("<this repository>")
rates = ibl_mtm.predict(model, ibl_mtm.open_cache("cache.zarr")[eid], task="co_smoothing")
```

It knows the sessions and units of its `config.json` alone; for other animals, fine-tune it:
`ibl-mtm train CONFIG --cache CACHE --run RUN --init MODEL_FOLDER`.

## Data

{data}

## Scores

{scores}

## Model

{model}
"""

_SCORES = {
    "bits_per_spike": "bits/spike",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "r2": "R²",
}
#: Scores whose standard error is told; that of balanced accuracy is not.
_WITH_ERROR = ("bits_per_spike", "accuracy", "r2")


def model_card(model: MtM, scores: Mapping[str, Any] | None) -> str:
    """Describe a model.

    Parameters
    ----------
    model
        The model.
    scores
        What ``ibl-mtm eval`` wrote; None if it was not evaluated.
    """
    return _CARD.format(
        schemes=", ".join(scheme.replace("_", "-") for scheme in model.scope.schemes),
        data=_data(model, scores or {}),
        scores=_scores(scores),
        model=_model(model),
    )


def _data(model: MtM, scores: Mapping[str, Any]) -> str:
    scope = model.scope
    trials = scope.trial_format
    lines = [
        f"- {counted(len(scope.units), 'unit')} of {counted(len(scope.sessions), 'session')}",
        f"- {trials.n_time} bins of {1000 * trials.bin_size:g} ms, aligned to "
        f"`{trials.alignment}`, from {trials.start:g} s",
        f"- regions ({scope.region_map}): {', '.join(scope.regions) or 'none'}",
    ]
    provenance = scores.get("provenance", {})
    lines += [f"- {key}: {provenance[key]}" for key in ("dataset", "split") if key in provenance]
    if scores.get("simulated"):
        lines.append("- **simulated data**")
    return "\n".join(lines)


def _scores(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "Not evaluated."
    rows = ["| task | score on test trials | |", "| --- | --- | --- |"]
    for task, values in scores["tasks"].items():
        for key, unit in _SCORES.items():
            if values and key in values:
                error = ""
                if key in _WITH_ERROR and values.get("sem") is not None:
                    of = " over units" if values.get("n_sessions") == 1 else ""
                    error = f" ± {values['sem']:.3f}{of}"
                rows.append(f"| {in_text(task)} | {values[key]:.3f}{error} | {unit} |")
    return "\n".join(rows)


def _model(model: MtM) -> str:
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    settings = yaml.safe_dump(model.settings.model_dump(mode="json"), sort_keys=False)
    return f"{n_parameters:,} parameters.\n\n```yaml\n{settings}```"
