"""The Lightning module: one optimizer step, validation under fixed masks, averaged weights.

A batch names the trials of a whole step. Each device takes its share of them, in parts if memory
asks for it; as every device knows the size of the whole, the loss is the same however it is cut.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.func import functional_call

from ibl_mtm.errors import UserError
from ibl_mtm.model.masking import BEHAVIOUR_SCHEMES
from ibl_mtm.model.modalities import Answer
from ibl_mtm.model.mtm import MtM
from ibl_mtm.sessions.view import Session
from ibl_mtm.training.data.sampler import Batch, Part
from ibl_mtm.training.loop.earlier_checkpoints import rename_states
from ibl_mtm.training.loop.ema import EMA
from ibl_mtm.training.loop.optimizer import RowAdamW
from ibl_mtm.training.loop.rows import Rows
from ibl_mtm.training.loop.schedule import Schedule
from ibl_mtm.training.objective.behaviour_scores import add_behaviour_to, new_behaviour_totals
from ibl_mtm.training.objective.draw_tasks import (
    SessionRows,
    Task,
    draw_tasks,
    make_task,
    tasks_loss,
    trial_keys,
)
from ibl_mtm.training.objective.schemes import possible_schemes
from ibl_mtm.training.objective.step_score import bits_per_spike, totals_of
from ibl_mtm.training.objective.target import ask_only
from ibl_mtm.training.objective.unit_scores import add_to, mean_over_units, new_totals, pooled
from ibl_mtm.training.settings import RunSettings

__all__ = ["LOG_EVERY", "Training"]

#: Validation masks are drawn at "steps" that no training step has.
VALIDATION_STEP = -1
#: Steps between those whose scores are logged, and read from the device.
LOG_EVERY = 10


class Training(pl.LightningModule):
    """Train an MtM on the batches of a `Loader`.

    Parameters
    ----------
    settings
        The run's.
    model
        To be trained.
    sessions
        All of the model's sessions; batches name them by position.
    steps
        Optimizer steps in all (for the learning-rate schedule).
    """

    def __init__(
        self, settings: RunSettings, model: MtM, sessions: Sequence[Session], steps: int
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.settings, self.model, self.steps = settings, model, steps
        self.schedule = Schedule(settings, steps)
        self.sessions = sessions
        self.rows = SessionRows.of(sessions, model.scope, model.names_of_modalities)
        # Gradients end at the rows of a step (see `Rows`), never at whole tables.
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in {*MtM.UNIT_TABLES, *MtM.SESSION_TABLES})
        self.average = EMA(model, settings.average, steps) if settings.average else None
        if settings.trainer.compile:
            for block in model.blocks:
                block.compile()
        #: The first step whose gradient was not finite, or infinity.
        self.register_buffer("diverged", torch.tensor(math.inf), persistent=False)
        #: What each scheme gains on each unit over a validation (see `unit_scores`).
        totals = new_totals(len(model.scope.units)).repeat(len(model.scope.schemes), 1, 1)
        self.register_buffer("totals", totals, persistent=False)
        #: And on each modality.
        totals = new_behaviour_totals(len(model.names_of_modalities))
        totals = totals.repeat(len(model.scope.schemes), 1, 1)
        self.register_buffer("behaviour_totals", totals, persistent=False)

    behaviour_totals: Tensor
    diverged: Tensor
    totals: Tensor

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        rename_states(checkpoint)

    def kept(self) -> MtM:
        """The model that is validated and kept: the averaged one, if there is one."""
        if self.average:
            return self.average.make_up_all(self.model, self.global_step - 1)
        return self.model

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        step = self.global_step
        # Dropout depends on the step alone, so a resumed run draws what the undisturbed one would.
        key = (self.settings.seed, step, self.global_rank)
        torch.manual_seed(hash(key) & 0x7FFFFFFF)
        rows = Rows([self.rows[part.session] for part in batch.parts], self.device)
        tables = rows.gather(self.model)
        is_logged = (batch_idx + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        parts = self.settings.trainer.accumulate
        share = batch.share(self.global_rank, self.trainer.world_size)
        # A device without a share takes part with a loss of weight 0: the others wait for it.
        pieces = [p for p in (share.share(i, parts) for i in range(parts)) if len(p)]
        scores = torch.zeros(4, device=self.device)
        for piece in pieces or [batch.share(0, len(batch))]:
            tasks = self.tasks_of(piece, rows)
            log_rates, answers = self.ask(self.model, tables, tasks)
            weight = len(piece) / len(batch) if pieces else 0.0
            null, masks = tables["null_log_rate"], self.settings.asked
            loss = weight * tasks_loss(
                tasks, log_rates, masks.loss, answers, null, masks.behaviour_weight
            )
            self.manual_backward(loss * self.trainer.world_size)
            if is_logged:
                scores[0] += loss.detach()
                for task, log_rate in zip(tasks, log_rates, strict=True):
                    scores[1:] += totals_of(task, log_rate.detach(), null) * bool(pieces)
        self.update(rows, tables)
        if is_logged:
            self._sum_over_devices([scores])
            self.log("train/loss", scores[0])
            self.log("train/bits_per_spike", bits_per_spike(scores[1:]))
            self.raise_if_diverged()

    def ask(
        self, model: MtM, tables: dict[str, Tensor], tasks: Sequence[Task]
    ) -> tuple[list[Tensor], list[Answer]]:
        """Log rates of each task and, of a model with modalities, what it says of behaviour."""
        groups = [task.group for task in tasks]
        if not model.settings.modalities:
            return functional_call(model, tables, (groups,)), []
        found: tuple[list[Tensor], list[Answer]] = functional_call(model, tables, (groups, True))
        return found

    def tasks_of(self, batch: Batch, rows: Rows) -> list[Task]:
        """What a batch asks of the model, those with causal attention last."""
        tasks = []
        seed, masks = self.settings.seed, self.settings.asked
        for part in batch.parts:
            own, session = self.rows[part.session], self.sessions[part.session]
            trial, behaviour = session.trial[part.trials], session.behaviour_of(part.trials)
            tasks += draw_tasks(own, part.counts(), trial, seed, batch.step, masks, behaviour)
        tasks.sort(key=lambda task: task.group.causal)
        return [rows.localise(self.aimed(task)) for task in tasks]

    def aimed(self, task: Task) -> Task:
        """A task of what the run is for: with a target, of that alone."""
        if self.settings.target is None:
            return task
        names = self.model.names_of_modalities
        n_traces = len(self.model.modalities.traces)
        return ask_only(task, names.index(self.settings.target), n_traces)

    def update(self, rows: Rows, tables: dict[str, Tensor]) -> None:
        """Take an optimizer step: the body's parameters, and the rows that were touched."""
        wrapped = self.optimizers()
        optimizer: RowAdamW = wrapped.optimizer  # type: ignore[union-attr, assignment]
        touched = {name: table.grad for name, table in tables.items() if table.grad is not None}
        # Tables are not of the model that devices share: their gradients were not averaged.
        self._sum_over_devices(list(touched.values()))
        for gradient in touched.values():
            gradient /= self.trainer.world_size
        body = [p.grad for p in self.model.parameters() if p.grad is not None]
        gradients = [*body, *touched.values()]
        norm = torch.nn.utils.get_total_norm(gradients)
        step = torch.full_like(self.diverged, self.global_step)
        self.diverged = torch.where(norm.isfinite(), self.diverged, self.diverged.minimum(step))
        if self.settings.optimizer.clip:
            # No test whether the norm is too large: that would wait for the device.
            torch._foreach_mul_(gradients, (self.settings.optimizer.clip / norm).clamp(max=1))
        for name, gradient in touched.items():
            optimizer.touch(getattr(self.model, name), rows.index(name), gradient)
        step_number = self.global_step
        if self.settings.optimizer.cycle_momentum:
            for group in optimizer.param_groups:
                group["betas"] = (self.schedule.first_moment(step_number), group["betas"][1])
        wrapped.step()  # type: ignore[union-attr]
        wrapped.zero_grad()  # type: ignore[union-attr]
        self.lr_schedulers().step()  # type: ignore[union-attr]
        if self.average:
            self.average.update(self.model, step_number, rows, tables)

    def raise_if_diverged(self) -> None:
        """End a training that cannot recover.

        Raises
        ------
        UserError
            If the gradient of some step was not finite.
        """
        if torch.isinf(self.diverged):
            return
        folder = self.trainer.default_root_dir
        raise UserError(
            f"training diverged: the loss was not finite at step {int(self.diverged) + 1}; "
            f"what {folder} holds is from before. Lower optimizer.learning_rate"
        )

    def on_validation_epoch_start(self) -> None:
        self.raise_if_diverged()
        self.totals.zero_()
        self.behaviour_totals.zero_()

    def validation_step(self, batch: Part, batch_idx: int) -> None:
        if batch_idx % self.trainer.world_size != self.global_rank:
            return
        own, session = self.rows[batch.session], self.sessions[batch.session]
        trial, behaviour = session.trial[batch.trials], session.behaviour_of(batch.trials)
        rows = Rows([own], self.device)
        model, tables = self.model, rows.gather(self.model)
        if self.average:
            model = self.average.model
            tables = self.average.gather(self.model, self.global_step - 1, rows)
        counts = batch.counts()
        schemes = self.model.scope.schemes
        for repeat in range(self.settings.validation_masks):
            step = VALIDATION_STEP - repeat
            key = trial_keys(self.settings.seed, step, own.session, trial)
            for scheme in possible_schemes(schemes, own.regions, own.sources is not None):
                made = make_task(own, counts, scheme, key, self.settings.asked, behaviour)
                task = rows.localise(self.aimed(made))
                (log_rate,), answers = self.ask(model, tables, [task])
                null, place = tables["null_log_rate"], own.units.to(self.device)
                totals = self.totals[schemes.index(scheme)]
                add_to(totals, place, log_rate, task.group.counts, task.target, null)
                for answer in answers:
                    add_behaviour_to(self.behaviour_totals[schemes.index(scheme)], task, answer)

    def on_validation_epoch_end(self) -> None:
        self._sum_over_devices([self.totals, self.behaviour_totals])
        # A scheme that no session allows has no score.
        tables = {
            scheme: totals
            for scheme, totals in zip(self.model.scope.schemes, self.totals, strict=True)
            if totals.any()
        }
        # Chosen by the mean over units, as the test score is; pooled, loud units decide alone.
        scores = {scheme: mean_over_units(totals) for scheme, totals in tables.items()}
        for scheme, score in scores.items():
            self.log(f"val/{scheme}", score, sync_dist=True)
        # Of schemes of activity, if there are any: they are what models without behaviour have.
        of_activity = [s for s in scores if s not in BEHAVIOUR_SCHEMES] or list(scores)
        mean = torch.zeros((), device=self.device)
        if of_activity:
            mean = torch.stack([scores[scheme] for scheme in of_activity]).mean()
            together = torch.stack([pooled(tables[scheme]) for scheme in of_activity]).mean()
            self.log("val_pooled/bits_per_spike", together, sync_dist=True)
        self.log("val/bits_per_spike", mean, sync_dist=True)
        if self.model.settings.modalities:
            self.log("val/score", mean + self.log_behaviour(), sync_dist=True)

    def log_behaviour(self) -> Tensor:
        """Log what schemes of behaviour gain; what the one that decides gains, or 0."""
        names, decides = self.model.names_of_modalities, torch.zeros((), device=self.device)
        for scheme in ("behaviour", "decoding"):  # the later one decides, if it was trained
            if scheme not in self.model.scope.schemes:
                continue
            totals = self.behaviour_totals[self.model.scope.schemes.index(scheme)]
            there = totals[:, 1] > 0
            if not there.any():
                continue
            gains = totals[:, 0] / totals[:, 1].clamp(min=1e-9)
            # One that is fitted too closely must not decide for all the others.
            alone = self.settings.target is not None
            decides = gains[there].mean() if alone else gains[there].clamp(min=0).mean()
            self.log(f"val/{scheme}", decides, sync_dist=True)
            if scheme == "decoding":
                for name, gain in zip(names, gains, strict=True):
                    if self.settings.target in (None, name):
                        self.log(f"val_behaviour/{name}", gain, sync_dist=True)
        return decides

    def configure_optimizers(self) -> OptimizerLRScheduler:
        chosen, finetune = self.settings.optimizer, self.settings.finetune
        groups: list[dict[str, Any]] = []
        schedules: list[Callable[[int], float]] = []
        tables = {*MtM.UNIT_TABLES, *MtM.SESSION_TABLES}
        for is_table, is_vector in itertools.product((False, True), repeat=2):
            parameters = [
                parameter
                for name, parameter in self.model.named_parameters()
                if (name in tables) == is_table and (parameter.ndim < 2) == is_vector
            ]
            if parameters:
                # Decay would pull the read-out bias, a unit's log rate, to one spike per bin.
                decay = chosen.weight_decay if chosen.decay_biases or not is_vector else 0.0
                rate = chosen.learning_rate * (1.0 if is_table else finetune.body_rate)
                groups.append({"params": parameters, "weight_decay": decay, "lr": rate})
                schedules.append(self.schedule.rate if is_table else self.schedule.body_rate)
        optimizer = RowAdamW(groups, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, schedules)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule}}

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        return batch  # `Task.on` moves its counts

    def _sum_over_devices(self, tensors: Sequence[Tensor]) -> None:
        if self.trainer.world_size > 1:
            for tensor in tensors:
                torch.distributed.all_reduce(tensor)
