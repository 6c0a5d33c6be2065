"""The training loop: a run from its first step, or its last checkpoint, to its end.

The effective batch is batch_size pairs x gradient_accumulation_steps x processes; its examples stand in one
order whatever that product is made of, so 4 x 1 and 2 x 2 take the same step. Nothing is read from the device
inside a step.
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.accelerator import Accelerator

from retouche.contract.runs import DiffusionRpo, Optimisation, RunSpec, TrainingMetrics
from retouche.errors import Conflict, TrainingStopped
from trainer import checkpoints
from trainer.batches import Draw, PairBatch, Pairs, WaitCancelled, draws
from trainer.checkpoints import Checkpoint
from trainer.denoising import Noised, noised, pair_errors
from trainer.meter import Meter, stop_if_hopeless
from trainer.objectives.choice import Whole, share_of_loss, whole_batch
from trainer.objectives.errors import PairErrors
from trainer.patience import patient_group
from trainer.policy import Policy

_log = logging.getLogger("retouche.trainer")

Report = Callable[[TrainingMetrics], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Training:
    """A run under way, the same on every process.

    `unet` is the policy's, wrapped by accelerate. By `beside` several processes agree without their devices,
    by `patient` they wait for the first one.
    """

    spec: RunSpec
    policy: Policy
    pairs: Pairs
    accelerator: Accelerator
    unet: torch.nn.Module
    optimizer: Any
    average: dict[str, torch.Tensor] | None
    beside: Any
    patient: Any

    @property
    def effective_batch(self) -> int:
        how = self.spec.optimisation
        processes: int = self.accelerator.num_processes
        return how.batch_size * how.gradient_accumulation_steps * processes


@dataclass(frozen=True)
class MicroBatch:
    """A part of the effective batch, `begin` its first row there."""

    pairs: PairBatch
    noisy: Noised
    begin: int


def train(
    spec: RunSpec,
    policy: Policy,
    pairs: Pairs,
    folder: Path,
    report: Report = lambda _: None,
    cancelled: Cancelled = lambda: False,
    saved: Callable[[Path], None] = lambda _: None,
) -> TrainingMetrics | None:
    """Train to the last step; returns the last metrics, None if it was stopped before or had already ended.

    Checkpoints go to `folder`, and the last weights to `folder`/weights.safetensors; `saved` is told of every
    checkpoint before the data is.

    Raises:
        TrainingStopped: the loss is not finite or the policy collapses; the last checkpoint is a good one.
        Conflict: the checkpoint in `folder` belongs to another specification, other pairs or another number
            of processes.
    """
    how = spec.optimisation
    training = prepare(spec, policy, pairs)
    start = _resumed(training, folder)
    meter, metrics, logged = Meter(spec.objective, training.accelerator.device), None, start
    for step in range(start, how.steps):
        learning_rate = _set_learning_rate(training, step)
        try:
            take_step(training, step, meter)
        except WaitCancelled:
            if step > start:
                _checkpoint(training, step, folder, saved)
            return None
        done = step + 1
        due = done % how.log_every_steps == 0 or done % how.checkpoint_every_steps == 0
        stop = _told_to_stop(training, cancelled)
        last = stop or done == how.steps
        if last or due:
            metrics = meter.read(done, done - logged, learning_rate)
            logged = done
            stop_if_hopeless(metrics, how.collapse_ratio)
            report(metrics)
        if last or done % how.checkpoint_every_steps == 0:
            _checkpoint(training, done, folder, saved)
        if stop and done < how.steps:
            return None
    if training.accelerator.is_main_process:
        checkpoints.save_tensors(_result(training), folder / "weights.safetensors")
    return metrics


def take_step(training: Training, step: int, meter: Meter) -> None:
    """One optimiser step over one effective batch."""
    accelerator, how = training.accelerator, training.spec.optimisation
    micro_batches = list(_micro_batches(training, step))
    excesses = _excesses_beforehand(training, micro_batches)
    for place, micro in enumerate(micro_batches):
        last = place + 1 == len(micro_batches)
        with nullcontext() if last else accelerator.no_sync(training.unet):
            errors = _errors(training, micro)
            whole = _whole(training, micro_batches, place, excesses or [errors])
            loss = share_of_loss(training.spec.objective, errors, training.effective_batch, whole)
            accelerator.backward(loss * accelerator.num_processes)  # its average over processes is the sum
        meter.add(errors, loss)
    accelerator.clip_grad_norm_(training.unet.parameters(), how.max_grad_norm)
    training.optimizer.step()
    training.optimizer.zero_grad(set_to_none=True)
    _move_average(training)


def prepare(spec: RunSpec, policy: Policy, pairs: Pairs) -> Training:
    """Policy, optimiser and data as accelerate wants them, before the first step."""
    how = spec.optimisation
    on_cpu = not torch.accelerator.is_available()  # accelerate sees several processes there only if told
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=how.mixed_precision)
    if policy.frozen is not None:
        policy.frozen.to(accelerator.device)
    weights = policy.trainable()
    adam = torch.optim.AdamW(weights.values(), lr=how.learning_rate, weight_decay=how.weight_decay)
    unet, optimizer = accelerator.prepare(policy.unet, adam)  # which moves the weights to the device
    average = {name: weight.detach().clone() for name, weight in weights.items()} if how.ema_decay else None
    several = accelerator.num_processes > 1
    beside = torch.distributed.new_group(backend="gloo") if several else None
    return Training(spec, policy, pairs, accelerator, unet, optimizer, average, beside, patient_group())


def _told_to_stop(training: Training, cancelled: Cancelled) -> bool:
    """Was any process told to stop? All of them stop after the same step."""
    told = torch.tensor(float(cancelled()))
    if training.beside is not None:
        torch.distributed.all_reduce(told, group=training.beside)
    return bool(told > 0)


def _set_learning_rate(training: Training, step: int) -> float:
    """Constant after a linear warm-up; a function of the step alone."""
    how: Optimisation = training.spec.optimisation
    rate = how.learning_rate * min(1.0, (step + 1) / max(1, how.warmup_steps))
    for group in training.optimizer.param_groups:
        group["lr"] = rate
    return rate


def _micro_batches(training: Training, step: int) -> Iterator[MicroBatch]:
    """This process's parts of the effective batch of `step`."""
    spec, accelerator = training.spec, training.accelerator
    size = spec.optimisation.batch_size
    for part in range(spec.optimisation.gradient_accumulation_steps):
        begin = (part * accelerator.num_processes + accelerator.process_index) * size
        first = step * training.effective_batch + begin
        drawn: list[Draw] = draws(training.pairs, spec.data, spec.seed, range(first, first + size))
        batch = training.pairs.batch(drawn).to(accelerator.device)
        noisy = noised(training.policy, batch, spec.seed, [draw.position for draw in drawn])
        yield MicroBatch(batch, noisy, begin)


def _errors(training: Training, micro: MicroBatch) -> PairErrors:
    with training.accelerator.autocast():
        return pair_errors(training.policy, training.unet, micro.pairs, micro.noisy, training.spec.objective)


def _excesses_beforehand(training: Training, micro_batches: list[MicroBatch]) -> list[PairErrors]:
    """The errors of all micro-batches, without gradients, where each one's loss depends on all of them."""
    if not isinstance(training.spec.objective, DiffusionRpo) or len(micro_batches) == 1:
        return []
    with torch.no_grad():
        return [_errors(training, micro) for micro in micro_batches]


def _whole(
    training: Training, micro_batches: list[MicroBatch], place: int, errors: list[PairErrors]
) -> Whole | None:
    objective: Any = training.spec.objective
    gather: Any = training.accelerator.gather
    if not isinstance(objective, DiffusionRpo):
        return None
    chosen_I = torch.cat([gather(part.chosen_excess_B.detach()) for part in errors])
    rejected_J = torch.cat([gather(part.rejected_excess_B.detach()) for part in errors])
    relations = (
        torch.cat([gather(micro.pairs.chosen_relation_BE) for micro in micro_batches]),
        torch.cat([gather(micro.pairs.rejected_relation_BE) for micro in micro_batches]),
    )
    micro = micro_batches[place]
    return whole_batch(objective, chosen_I, rejected_J, relations, micro.begin, len(micro.pairs))


@torch.no_grad()
def _move_average(training: Training) -> None:
    decay = training.spec.optimisation.ema_decay
    if training.average is None or decay is None:
        return
    weights = [weight.data for weight in training.policy.trainable().values()]
    torch._foreach_lerp_(list(training.average.values()), weights, 1 - decay)


def _checkpoint(training: Training, step: int, folder: Path, saved: Callable[[Path], None]) -> None:
    """Save everything on the first process, then let the data know."""
    accelerator = training.accelerator
    weights = {name: weight.data for name, weight in training.policy.trainable().items()}
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise TrainingStopped(f"the weights after step {step} are not finite; lower learning_rate")
    positions = step * training.effective_batch
    if accelerator.is_main_process:
        optimizer = checkpoints.moments(_adam(training), list(weights))
        scale = dict(accelerator.scaler.state_dict()) if accelerator.scaler else {}
        source, digest = training.pairs.state(), training.pairs.digest
        made = Checkpoint(step, positions, weights, optimizer, training.average, scale, source, digest)
        saved(checkpoints.write(folder, made, training.spec))
        training.pairs.checkpointed(positions)
    if training.patient is not None:  # `saved` may have gigabytes to send
        torch.distributed.barrier(group=training.patient)


def _resumed(training: Training, folder: Path) -> int:
    """Load the newest checkpoint, if there is one; the step to go on with."""
    saved = checkpoints.newest(folder, training.spec, training.pairs.digest)
    if saved is None:
        return 0
    if saved.positions != saved.step * training.effective_batch:
        raise Conflict(
            f"the checkpoint at step {saved.step} was made with {saved.positions // saved.step} pairs a step "
            f"and this would take {training.effective_batch}; start the trainer with as many processes"
        )
    weights = training.policy.trainable()
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(saved.weights[name])
        for name, average in (training.average or {}).items():
            average.copy_((saved.average or {})[name])
    training.pairs.restore(saved.source)
    if training.accelerator.is_main_process:  # a kill may have come between the checkpoint and this
        training.pairs.checkpointed(saved.positions)
        _log.info("goes on from the checkpoint at step %d", saved.step)
    checkpoints.restore_moments(_adam(training), list(weights), saved.optimizer)
    if training.accelerator.scaler and saved.loss_scale:
        training.accelerator.scaler.load_state_dict(saved.loss_scale)
    return saved.step


def _result(training: Training) -> dict[str, torch.Tensor]:
    """What the run gives: the moving average where there is one, or the weights."""
    return training.average or {name: weight.data for name, weight in training.policy.trainable().items()}


def _adam(training: Training) -> torch.optim.Optimizer:
    """The optimiser inside accelerate's."""
    adam: torch.optim.Optimizer = training.optimizer.optimizer
    return adam
