"""Saving and loading models: ``model.safetensors`` beside ``config.json``, nothing pickled.

model = load_model("runs/mtm")        # in evaluation mode; model.scope: what it knows
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import ModelSettings, MtM, Scope, TrialFormat
from ibl_mtm.settings import validate_settings

__all__ = ["FORMAT_VERSION", "load_model", "save_model"]

WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT_VERSION = 1


def save_model(model: MtM, folder: Path) -> None:
    """Write a model's weights and what it knows, each file replaced as a whole."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "format": "ibl-mtm",
        "format_version": FORMAT_VERSION,
        "model": model.settings.model_dump(mode="json"),
        **asdict(model.scope),
    }
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    _replace(folder / CONFIG, lambda path: path.write_text(json.dumps(config)))
    _replace(folder / WEIGHTS, lambda path: path.write_bytes(save(weights)))


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> MtM:
    """Load a model from a run folder.

    Parameters
    ----------
    folder
        A folder that holds ``model.safetensors`` and ``config.json``.
    device
        Where its weights go.

    Returns
    -------
    MtM
        In evaluation mode.

    Raises
    ------
    UserError
        If the folder holds no such model.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} holds no trained model (no {name}); "
                "give the folder of a run made by `ibl-mtm train`"
            )
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / CONFIG} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != "ibl-mtm":
        raise UserError(f"{folder / CONFIG} does not describe an ibl-mtm model")
    if config["format_version"] > FORMAT_VERSION:
        raise UserError(f"{folder} was written by a newer ibl-mtm; update this one")
    settings = validate_settings(config["model"], ModelSettings, str(folder / CONFIG))
    scope = Scope(
        **{key: tuple(config[key]) for key in ("units", "sessions", "regions", "schemes")},
        trial_format=TrialFormat(**config["trial_format"]),
        region_map=config["region_map"],
        min_units_per_region=config["min_units_per_region"],
    )
    model = MtM(settings, scope)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{folder / WEIGHTS} does not fit {CONFIG}: {reason}") from None
    return model.to(device).eval()


def _replace(path: Path, write: Any) -> None:
    aside = path.with_name(f".{path.name}.new")
    try:
        write(aside)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)
