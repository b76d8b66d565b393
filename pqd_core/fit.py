"""One plain training loop. Stages bring the loss and callbacks; accelerate brings devices and precision."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from attrs import frozen
from torch import Tensor, nn
from torch.optim import lr_scheduler

from pqd_core.batches import Batch, TrainBatches

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pqd_core.spec import Training
    from pqd_core.stage import StageContext
    from pqd_core.task import Task

Loss = Callable[[Tensor, Batch], Tensor]
OnEpoch = Callable[[int], None]
OnStep = Callable[[int, int], None]


@frozen
class task_loss:  # noqa: N801 - used as a function
    """The loss of a task (softmax cross-entropy for classification) on the labels of a batch; a scalar."""

    task: Task
    label_smoothing: float = 0.0

    def __call__(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean over the batch."""
        return self.task.loss(logits, batch.targets, self.label_smoothing)


def fit(
    model: nn.Module,
    context: StageContext,
    training: Training,
    *,
    loss: Loss | None = None,
    on_epoch: Sequence[OnEpoch] = (),
    on_step: Sequence[OnStep] = (),
    mixed_precision: bool = True,
) -> nn.Module:
    """Train `model` in place for `context.epochs` epochs and return it, on the CPU, in eval mode.

    `loss(logits, batch)` is a scalar; the task's own (cross-entropy for classification) if None. Each of `on_epoch` is
    called with the epoch (from 0) before it; each of `on_step` with (steps done, steps in all) after an optimizer
    step. Facts that hold of the model are restored after every step. `mixed_precision=False` keeps a CUDA device from
    autocasting to bf16.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    if not context.epochs:
        context.hold_facts(model)
        return at_rest(model)
    loss = loss or task_loss(context.task, training.label_smoothing)
    accelerator = _accelerator(context.device, mixed_precision)
    batches = TrainBatches(context, training, accelerator)
    model.train()
    model.to(context.device).to(memory_format=batches.memory_format)
    context.move_facts()
    optimizer = make_optimizer(model, training)
    schedule = make_schedule(optimizer, training, total := context.epochs * len(batches))
    wrapped, optimizer = accelerator.prepare(model, optimizer)  # autocast and several processes
    done = 0
    for epoch in range(context.epochs):
        for call in on_epoch:
            call(epoch)
        curve = _Curve(context, float(schedule.get_last_lr()[0]))
        for batch in batches:
            logits = wrapped(batch.inputs)
            value = loss(logits, batch)
            optimizer.zero_grad()
            accelerator.backward(value)
            optimizer.step()
            schedule.step()
            done += 1
            for call_step in on_step:
                call_step(done, total)
            context.hold_facts(model)
            curve.add(value, logits, batch)
        curve.close(epoch)
    accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    return at_rest(model)


def at_rest(model: nn.Module) -> nn.Module:
    """`model` itself, on the CPU, in eval mode; of torchao's graphs `eval` gives nothing back."""
    model.cpu().to(memory_format=torch.contiguous_format).eval()
    return model


def _accelerator(device: torch.device, mixed_precision: bool) -> Accelerator:
    """accelerate's view of this process: its device, its rank and its precision."""
    from accelerate import Accelerator
    from accelerate.utils import AutocastKwargs

    cuda = device.type == "cuda"
    autocast = AutocastKwargs(enabled=cuda and mixed_precision)
    return Accelerator(cpu=not cuda, mixed_precision="bf16" if cuda else "no", kwargs_handlers=[autocast])


def make_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """The optimizer that `training` names, over all parameters that require a gradient."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, training.lr, weight_decay=training.weight_decay)
    return torch.optim.SGD(
        parameters,
        training.lr,
        momentum=training.momentum,
        nesterov=training.nesterov and training.momentum > 0,
        weight_decay=training.weight_decay,
    )


def make_schedule(optimizer: torch.optim.Optimizer, training: Training, steps: int) -> lr_scheduler.LRScheduler:
    """The learning rate over `steps` optimizer steps: a linear warm-up, then the named decay."""
    warmup = math.floor(training.warmup * steps)
    rest = max(1, steps - warmup)
    after: lr_scheduler.LRScheduler
    if training.schedule == "cosine":
        after = lr_scheduler.CosineAnnealingLR(optimizer, rest)
    elif training.schedule == "step":
        after = lr_scheduler.MultiStepLR(optimizer, sorted({max(1, rest // 2), max(1, rest * 3 // 4)}))
    else:
        after = lr_scheduler.ConstantLR(optimizer, factor=1.0, total_iters=0)
    if not warmup:
        return after
    ramp = lr_scheduler.LinearLR(optimizer, start_factor=1 / (warmup + 1), total_iters=warmup)
    return lr_scheduler.SequentialLR(optimizer, [ramp, after], milestones=[warmup])


class _Curve:
    """Sums of one epoch, kept on the device so that no step waits for a number."""

    def __init__(self, context: StageContext, lr: float) -> None:
        self.context, self.lr, self.began = context, lr, time.perf_counter()
        self.sums: Any = torch.zeros(2, device=context.device)
        self.images = 0

    def add(self, value: Tensor, logits: Tensor, batch: Batch) -> None:
        right = self.context.task.right(logits.detach().float(), batch.targets).sum()
        self.sums += torch.stack([value.detach().float() * len(batch), right])
        self.images += len(batch)
        self.context.progress(len(batch))

    def close(self, epoch: int) -> None:
        total_loss, right = self.sums.tolist()
        if not math.isfinite(total_loss):
            raise FloatingPointError(f"the loss is not finite in epoch {epoch + 1}; lower the learning rate")
        entry = {
            "epoch": epoch + 1,
            "loss": total_loss / self.images,
            "train_accuracy": right / self.images,
            "lr": self.lr,
            "seconds": time.perf_counter() - self.began,
        }
        self.context.history.append(entry)
        self.context.log.info("epoch", epochs=self.context.epochs, **{k: round(v, 5) for k, v in entry.items()})
