"""Saving, loading and publishing models: ``model.safetensors`` beside ``config.json``.

model = load_model("runs/mtm")                      # in evaluation mode; model.scope: what it knows
model.push_to_hub("some-lab/mtm")
model = PretrainedMtM.from_pretrained("some-lab/mtm")

The names are Hugging Face's. Nothing is pickled: loading a model runs no code from its files.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from ibl_mtm.config.yaml_settings import validate_settings
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.errors import UserError
from ibl_mtm.model.mtm import MtM
from ibl_mtm.model.scope import Scope
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.deal import TRIALS
from ibl_mtm.sessions.trial_format import TrialFormat
from ibl_mtm.training.checkpoint.model_card import model_card

__all__ = [
    "FORMAT_VERSION",
    "PretrainedMtM",
    "find_model",
    "is_of_hub",
    "load_model",
    "model_digest",
    "save_model",
]

WEIGHTS, CONFIG, CARD, SCORES = "model.safetensors", "config.json", "README.md", "metrics.json"
#: What travels with a model so that it can be scored elsewhere.
RECORDS = ("config.yaml", TRIALS)
FORMAT_VERSION = 1


class PretrainedMtM(MtM):
    """An `MtM` that can be saved, published and fetched, as models of the Hugging Face Hub are.

    Attributes
    ----------
    scores
        What ``ibl-mtm eval`` wrote beside it, for its card; None if it was not evaluated.
    records
        What its run keeps and scoring it needs, by file name: its settings, and which trials it
        was trained on.
    """

    scores: dict[str, Any] | None = None
    records: Mapping[str, bytes] = MappingProxyType({})

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the model and its card into a folder."""
        folder = Path(folder)
        save_model(self, folder)
        (folder / CARD).write_text(model_card(self, self.scores), encoding="utf-8")
        if self.scores is not None:
            (folder / SCORES).write_text(json.dumps(self.scores, indent=1), encoding="utf-8")
        for name, content in self.records.items():
            (folder / name).write_bytes(content)

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
        return load_model(source, device, revision=revision, token=token)

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
    replace_file(folder / CONFIG, lambda path: path.write_text(json.dumps(config)))
    replace_file(folder / WEIGHTS, lambda path: path.write_bytes(save(weights)))


def find_model(
    source: str | Path, *, revision: str | None = None, token: str | None = None
) -> Path:
    """The folder of a model; one of the Hub is fetched, if there is no such folder here.

    Parameters
    ----------
    source
        A folder that holds ``model.safetensors`` and ``config.json``, or a repository such as
        ``some-lab/mtm``.
    revision, token
        Of the repository.

    Raises
    ------
    UserError
        If there is no such model, or ``huggingface_hub`` is needed and not installed.
    """
    folder = Path(source)
    if not folder.exists() and is_of_hub(source):
        try:
            return Path(
                _import_hub().snapshot_download(
                    str(source),
                    revision=revision,
                    token=token,
                    allow_patterns=[CONFIG, WEIGHTS, SCORES, *RECORDS],
                )
            )
        except (OSError, ValueError) as error:  # what every error of the Hub is
            raise UserError(
                f"no folder '{source}', and not to be had from the Hub: {_first_line(error)}"
            ) from None
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} holds no trained model (no {name}); "
                "give the folder of a run made by `ibl-mtm train`"
            )
    return folder


def is_of_hub(source: str | Path) -> bool:
    """Whether a name is that of a repository, and of no folder that is only missing here."""
    folder = Path(source)
    return (
        re.fullmatch(r"[\w.-]+/[\w.-]+", str(source)) is not None
        and not str(source).startswith(".")
        and not folder.exists()
        and not folder.parent.is_dir()
    )


def load_model(
    source: str | Path,
    device: str | torch.device = "cpu",
    *,
    revision: str | None = None,
    token: str | None = None,
) -> PretrainedMtM:
    """Load a model from the folder of a run, or from the Hub.

    Parameters
    ----------
    source
        As for `find_model`.
    device
        Where its weights go.
    revision, token
        Of a repository of the Hub.

    Returns
    -------
    PretrainedMtM
        In evaluation mode.

    Raises
    ------
    UserError
        If there is no such model, or the device is not there.
    """
    folder = find_model(source, revision=revision, token=token)
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
    model.records = {
        name: (folder / name).read_bytes() for name in RECORDS if (folder / name).is_file()
    }
    try:
        return model.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device '{device}' is not to be had: {_first_line(error)}") from None


def model_digest(folder: str | Path) -> str:
    """A digest of the weights in a run folder: two models of one digest are the same."""
    with (Path(folder) / WEIGHTS).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _read_config(config: dict[str, Any], path: Path) -> tuple[ModelSettings, Scope]:
    try:
        settings = validate_settings(config["model"], ModelSettings, str(path))
        scope = Scope(
            **{key: tuple(config[key]) for key in ("units", "sessions", "regions", "schemes")},
            trial_format=TrialFormat(**config["trial_format"]),
            region_map=config["region_map"],
            min_units_per_region=config["min_units_per_region"],
            void_and_root=config.get("void_and_root", "leave_out"),  # not of earlier versions
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
