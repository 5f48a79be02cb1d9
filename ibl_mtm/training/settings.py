"""The settings of a run: what a configuration file may say."""

import difflib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from ibl_mtm.config.yaml_settings import Settings, find_shipped, read_settings, settings_of
from ibl_mtm.errors import UserError
from ibl_mtm.model.loss import Reduction
from ibl_mtm.model.masking import BEHAVIOUR_SCHEMES, SCHEMES, MaskRatios, Scheme
from ibl_mtm.model.settings import ModelSettings
from ibl_mtm.sessions.behaviours import BEHAVIOURS
from ibl_mtm.sessions.selection import SelectionSettings

__all__ = [
    "DataSettings",
    "FinetuneSettings",
    "MaskSettings",
    "OptimizerSettings",
    "RunSettings",
    "TrainerSettings",
    "as_run_settings",
    "find_configuration",
    "read_data_settings",
    "read_run_settings",
    "shipped_configurations",
]


class DataSettings(SelectionSettings):
    """Which units and trials are used, as filters on reading, and how their counts are held."""

    #: Sessions among whose trials batches are drawn at a time; they are in memory together.
    pool: int = Field(16, gt=0)
    #: Memory that counts take in each process (GB); what does not fit is read again every epoch.
    #: null: half of what is available as training starts.
    memory_gb: float | None = Field(None, gt=0)
    #: Hold all counts on the device; `auto`: if they take up to half of a GPU's free memory.
    device_cache: Literal["auto", "on", "off"] = "auto"

    #: A training on animals that BrainWideBench evaluates and on others: whatever it is scored on
    #: there is void, so it is refused, or `use` allows it.
    evaluated_animals: Literal["refuse", "use"] = "refuse"

    @field_validator("device_cache", mode="before")
    @classmethod
    def _as_word(cls, chosen: object) -> object:
        if isinstance(chosen, bool):  # YAML reads on and off as truth values
            return "on" if chosen else "off"
        return chosen


class MaskSettings(Settings):
    """What the model is trained to predict."""

    #: Schemes and their weights in the draw.
    schemes: dict[Scheme, float] = Field(default_factory=lambda: dict.fromkeys(SCHEMES[:4], 1.0))
    #: One scheme is drawn for each training step (the paper), or for each trial.
    draw_per: Literal["step", "trial"] = "step"
    #: The region of intra- and inter-region masks is drawn for each trial, or once for all trials
    #: that a step has of a session (the paper).
    draw_region_per: Literal["step", "trial"] = "trial"
    ratios: MaskRatios = MaskRatios()
    #: `sum` over masked entries (the paper), or their mean, so that all schemes weigh alike.
    loss: Reduction = "sum"
    #: Weight of behaviour beside spikes: at 1 a modality of which nothing is known weighs as all
    #: of a trial's spikes of which nothing is known. Far more can be known of behaviour.
    behaviour_weight: float = Field(0.1, ge=0)

    @field_validator("schemes")
    @classmethod
    def _some_scheme(cls, schemes: dict[Scheme, float]) -> dict[Scheme, float]:
        if not schemes or min(schemes.values()) < 0 or sum(schemes.values()) <= 0:
            raise ValueError("give at least one scheme a positive weight, and none a negative one")
        return schemes


class OptimizerSettings(Settings):
    """AdamW with a one-cycle cosine schedule."""

    learning_rate: float = Field(1e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    #: Decay biases too (the paper): it pulls a unit's log rate towards one spike per bin.
    decay_biases: bool = False
    #: The decay of the first moment goes from 0.95 down to 0.85 and back while the rate goes up and
    #: down, as in PyTorch's one-cycle schedule (the paper's code); otherwise it is 0.9.
    cycle_momentum: bool = False
    #: Share of all steps over which the rate rises, from a tenth of it.
    warmup: float = Field(0.15, ge=0, lt=1)
    #: Largest norm of the gradient; null: no clipping.
    clip: float | None = Field(1.0, gt=0)


class FinetuneSettings(Settings):
    """How a model that starts from another one is trained.

    Stitchers are the rows of units and sessions; the body is everything that sessions share.
    """

    #: Steps at the start in which stitchers alone are trained.
    stitchers_only: int = Field(0, ge=0)
    #: Learning rate of the body, relative to that of the stitchers.
    body_rate: float = Field(1.0, gt=0)


class TrainerSettings(Settings):
    """How a training is computed; a resumed run may differ in these."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    precision: Literal["32", "bf16-mixed"] = "32"
    #: Compile the transformer's layers: a little faster on a GPU at the paper's sizes.
    compile: bool = False
    #: Devices of each node; every batch is shared out over all of them.
    devices: int = Field(1, gt=0)
    nodes: int = Field(1, gt=0)
    #: Parts that a device computes its share of a batch in, one after the other: saves memory.
    accumulate: int = Field(1, gt=0)
    #: TensorBoard's files are always written; `wandb` also logs to Weights & Biases.
    logger: Literal["tensorboard", "wandb"] = "tensorboard"

    @field_validator("precision", mode="before")
    @classmethod
    def _as_text(cls, precision: object) -> str:
        return str(precision)  # YAML reads 32 as a number


class RunSettings(Settings):
    """Everything that decides the outcome of a training."""

    alternatives: ClassVar = (("steps", "epochs"),)

    name: str = Field("mtm", min_length=1)
    seed: int = Field(0, ge=0, lt=1 << 63)
    data: DataSettings = DataSettings()
    masks: MaskSettings = MaskSettings()
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    finetune: FinetuneSettings = FinetuneSettings()
    trainer: TrainerSettings = TrainerSettings()
    #: Train for one modality alone: every trial is asked for it, from all of its spikes, and the
    #: step is kept that tells most of it on validation trials; null: `masks.schemes`.
    target: str | None = None
    #: Trials in a batch, and the largest number of sessions that they come from (the paper: 1).
    batch_size: int = Field(16, gt=0)
    sessions_per_batch: int = Field(1, gt=0)
    #: Optimizer steps in all; alternatively `epochs`, passes over all training trials.
    steps: int | None = Field(None, gt=0)
    epochs: int | None = Field(None, gt=0)
    #: Steps between validations; null: once an epoch.
    validate_every: int | None = Field(None, gt=0)
    #: Masks that each validation trial is scored under, for each scheme.
    validation_masks: int = Field(1, gt=0)
    #: Validations without a better score after which training ends; null: never.
    patience: int | None = Field(None, gt=0)
    #: Decay of the exponential average of the weights that is validated and kept; 0: none.
    average: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _target_is_a_modality(self) -> "RunSettings":
        known = self.model.modalities
        if self.target is not None and self.target not in known:
            if self.target not in BEHAVIOURS:
                raise ValueError(
                    f"target '{self.target}' is no modality; known: {', '.join(BEHAVIOURS)}"
                )
            raise ValueError(
                f"target '{self.target}' is none of model.modalities ({', '.join(known) or 'none'})"
                f": set model.modalities=[{', '.join((*known, self.target))}]"
            )
        return self

    @property
    def asked(self) -> MaskSettings:
        """What trials are asked for in fact: with a `target`, decoding alone."""
        if self.target is None:
            return self.masks
        return self.masks.model_copy(update={"schemes": {"decoding": 1.0}})

    @model_validator(mode="after")
    def _schemes_of_modalities(self) -> "RunSettings":
        if self.target is not None:
            return self
        asked = [s for s in BEHAVIOUR_SCHEMES if self.masks.schemes.get(s, 0) > 0]
        if asked and not self.model.modalities:
            raise ValueError(
                f"masks.schemes has {', '.join(asked)}, of behaviour, and the model has none: "
                "name some in model.modalities"
            )
        if self.model.modalities and not asked:
            raise ValueError(
                f"model.modalities has {', '.join(self.model.modalities)}, and none of "
                f"masks.schemes trains them: add some of {', '.join(BEHAVIOUR_SCHEMES)}"
            )
        return self

    @model_validator(mode="after")
    def _whole_shares(self) -> "RunSettings":
        if self.batch_size % self.sessions_per_batch:
            raise ValueError(
                f"batch_size {self.batch_size} is no multiple of "
                f"sessions_per_batch {self.sessions_per_batch}"
            )
        return self


def read_run_settings(config: str, overrides: Iterable[str] = ()) -> RunSettings:
    """Read a configuration: a path, or the name of one in ``pipelines/configs``.

    Raises
    ------
    UserError
        If there is no such file, it says nothing, or it does not fit.

    Examples
    --------
    >>> settings = read_run_settings("mtm_small", ["steps=50", "optimizer.learning_rate=0.001"])
    >>> settings.steps, settings.optimizer.learning_rate
    (50, 0.001)
    """
    path = find_configuration(config)
    settings = read_settings(path, RunSettings, overrides)
    if settings == RunSettings():
        raise UserError(
            f"{path} sets nothing, and would train the paper's full-size model; write "
            "'base: mtm_small.yaml' into it (or 'base: paper.yaml' if that is what you want)"
        )
    if settings.steps and settings.epochs:
        raise UserError(f"{path} gives both steps and epochs, of which one follows; give one")
    return settings


def as_run_settings(given: RunSettings | str | Path | Mapping[str, Any]) -> RunSettings:
    """Settings as they are, by the name or path of a configuration, or as a mapping.

    Raises
    ------
    UserError
        As `read_run_settings` does.

    Examples
    --------
    >>> as_run_settings({"base": "mtm_small", "steps": 50, "model": {"width": 32}}).model.width
    32
    """
    if isinstance(given, RunSettings):
        return given
    if isinstance(given, Mapping):
        return settings_of(given, RunSettings)
    return read_run_settings(str(given))


def find_configuration(config: str) -> Path:
    """The file of a configuration: a path, or the name of one in ``pipelines/configs``.

    Raises
    ------
    UserError
        If there is neither.
    """
    path = Path(config).expanduser()
    if path.is_file():
        return path
    name = path.name if path.suffix in (".yaml", ".yml") else f"{path.name}.yaml"
    try:
        return find_shipped(f"pipelines/configs/{name}")
    except UserError:
        known = sorted(shipped_configurations())
    close = difflib.get_close_matches(Path(name).stem, known, n=1)
    hint = f"did you mean '{close[0]}'?" if close else f"shipped are {', '.join(known)}"
    raise UserError(f"no file '{path}', and no shipped configuration of that name; {hint}")


def shipped_configurations() -> dict[str, Path]:
    """The configurations in ``pipelines/configs`` by name, found as `find_configuration` does."""
    folder = find_shipped("pipelines/configs/mtm.yaml").parent
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def read_data_settings(run: Path) -> DataSettings:
    """Which units and trials a run was trained on.

    Raises
    ------
    UserError
        If the folder holds no settings of a run.
    """
    return read_settings(run / "config.yaml", RunSettings).data
