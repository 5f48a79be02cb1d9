"""Saving, loading and publishing models: ``model.safetensors`` beside ``config.json``.

model = load_model("runs/mtm")                      # in evaluation mode; model.scope: what it knows
model.push_to_hub("some-lab/mtm")
model = PretrainedMtM.from_pretrained("some-lab/mtm")

The names are Hugging Face's. Nothing is pickled: loading a model runs no code from its files.
"""

import json
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM, Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.checkpoint.model_card import model_card

__all__ = ["FORMAT_VERSION", "PretrainedMtM", "load_model", "save_model"]

WEIGHTS, CONFIG, CARD, SCORES = "model.safetensors", "config.json", "README.md", "metrics.json"
FORMAT_VERSION = 1


class PretrainedMtM(MtM):
    """An `MtM` that can be saved, published and fetched, as models of the Hugging Face Hub are.

    Attributes
    ----------
    scores
        What ``ibl-mtm eval`` wrote beside it, for its card; None if it was not evaluated.
    """

    scores: dict[str, Any] | None = None

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its card into a folder."""
        folder = Path(folder)
        save_model(self, folder)
        (folder / CARD).write_text(model_card(self, self.scores), encoding="utf-8")
        if self.scores is not None:
            (folder / SCORES).write_text(json.dumps(self.scores, indent=1), encoding="utf-8")

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        device: str | torch.device = "cpu",
    ) -> "PretrainedMtM":
        """Load a model from a folder or, where there is no such folder, from the Hub.

        Parameters
        ----------
        source
            A folder, or a repository such as ``some-lab/mtm``.
        revision, token
            Of the repository.
        device
            Where its weights go.

        Raises
        ------
        UserError
            If there is no such model, or ``huggingface_hub`` is needed and not installed.
        """
        if not Path(source).is_dir():
            hub = _import_hub()
            files = [CONFIG, WEIGHTS, SCORES]
            try:
                source = hub.snapshot_download(
                    str(source), revision=revision, token=token, allow_patterns=files
                )
            except (OSError, ValueError) as error:  # what every error of the Hub is
                raise UserError(
                    f"no folder '{source}', and not to be had from the Hub: {_first_line(error)}"
                ) from None
        return load_model(source, device)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool = False,
        token: str | None = None,
        commit_message: str = "Upload an ibl-mtm model",
    ) -> str:
        """Publish the model with its card.

        Parameters
        ----------
        repo_id
            A repository such as ``some-lab/mtm``; made if there is none.
        private
            Whether a new repository is.
        token
            Of an account that may write there; by default the one that is logged in.
        commit_message
            Of the upload.

        Returns
        -------
        str
            Address of what was uploaded.

        Raises
        ------
        UserError
            If the Hub refuses or is not to be had, or ``huggingface_hub`` is not installed.
        """
        api = _import_hub().HfApi(token=token)
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            try:
                api.create_repo(repo_id, private=private, exist_ok=True)
                done = api.upload_folder(
                    repo_id=repo_id, folder_path=folder, commit_message=commit_message
                )
            except (OSError, ValueError) as error:
                reason = _first_line(error)
                raise UserError(f"'{repo_id}' cannot be published: {reason}") from None
        return str(done)


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


def load_model(folder: str | Path, device: str | torch.device = "cpu") -> PretrainedMtM:
    """Load a model from a run folder.

    Parameters
    ----------
    folder
        A folder that holds ``model.safetensors`` and ``config.json``.
    device
        Where its weights go.

    Returns
    -------
    PretrainedMtM
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
    if config.get("format_version", 0) > FORMAT_VERSION:
        raise UserError(f"{folder} was written by a newer ibl-mtm; update this one")
    settings, scope = _read_config(config, folder / CONFIG)
    model = PretrainedMtM(settings, scope)
    try:
        model.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, RuntimeError) as error:
        raise UserError(f"{folder / WEIGHTS} does not fit {CONFIG}: {_first_line(error)}") from None
    if (folder / SCORES).is_file():
        model.scores = json.loads((folder / SCORES).read_text(encoding="utf-8"))
    return model.to(device).eval()


def _read_config(config: dict[str, Any], path: Path) -> tuple[ModelSettings, Scope]:
    try:
        settings = validate_settings(config["model"], ModelSettings, str(path))
        scope = Scope(
            **{key: tuple(config[key]) for key in ("units", "sessions", "regions", "schemes")},
            trial_format=TrialFormat(**config["trial_format"]),
            region_map=config["region_map"],
            min_units_per_region=config["min_units_per_region"],
        )
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} is not as ibl-mtm writes it: {error}") from None
    return settings, scope


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _import_hub() -> Any:
    try:
        return import_module("huggingface_hub")
    except ImportError:
        raise UserError(
            "the Hugging Face Hub needs a package that is not installed: "
            "pip install huggingface_hub"
        ) from None


def _replace(path: Path, write: Any) -> None:
    aside = path.with_name(f".{path.name}.new")
    try:
        write(aside)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    aside.replace(path)
