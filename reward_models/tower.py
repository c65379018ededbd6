"""Fitting the behaviour tower with the Hugging Face Trainer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from transformers import (
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_utils import get_last_checkpoint

from audience.reward_models.behaviour import BehaviourModel, gate_features, scores_of
from audience.reward_models.blocks import BlockDataset
from audience.reward_models.inputs import CollaborativeInputs
from audience.reward_models.quiet import quiet

PATIENCE = 3
"""Epochs without a better validation loss after which the fit stops."""


def fit_tower(
    model: BehaviourModel,
    training: BlockDataset,
    validation: BlockDataset,
    crossed: CollaborativeInputs,
    work: Path,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    weight_decay: float,
    seed: int,
    device: torch.device,
    verbose: bool,
) -> None:
    """Fit in place; the weights of the epoch with the lowest validation loss stay.

    The linear part of the feedback head is first fitted to the collaborative inputs alone, so
    the transformer starts from their calibrated prediction and learns what they miss.

    Args:
        model: The model to fit.
        training: Blocks of the fitting users.
        validation: Blocks of the validation users.
        crossed: Cross-fitted inputs for `training`.
        work: Directory of checkpoints; where it holds some, the fit resumes from the last.
        epochs: Passes over the fitting users.
        batch_size: Blocks a step.
        learning_rate: Peak of a linear warm-up (a tenth) and cosine decay.
        weight_decay: Of AdamW.
        seed: Of batches and dropout.
        device: Where to compute.
        verbose: Whether to show progress.

    Raises:
        FloatingPointError: The loss is no longer a finite number.
    """
    checkpoints = work / "checkpoints"
    last = get_last_checkpoint(str(checkpoints)) if checkpoints.is_dir() else None
    if last is None:
        _fit_base(model, training, crossed)
    steps = math.ceil(len(training) / batch_size)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size,
        per_device_eval_batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        warmup_steps=max(1, steps * epochs // 10),
        lr_scheduler_type="cosine",
        max_grad_norm=1.0,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="loss",
        greater_is_better=False,
        logging_steps=max(1, steps // 4),
        remove_unused_columns=False,
        report_to="none",
        disable_tqdm=not verbose,
        use_cpu=device.type == "cpu",
        seed=seed,
    )
    with SummaryWriter(str(work / "logs")) as writer:
        trainer = _TowerTrainer(
            crossed=crossed.to(device),
            model=model,
            args=arguments,
            train_dataset=training,
            eval_dataset=validation,
            data_collator=training.collate,
            callbacks=[
                _EpochOrders(training),
                _FiniteLoss(),
                EarlyStoppingCallback(PATIENCE),
                TensorBoardCallback(writer),
            ],
        )
        trainer.remove_callback(PrinterCallback)
        if verbose:
            trainer.remove_callback(ProgressCallback)
            trainer.add_callback(_Progress())
        with quiet():
            trainer.train(resume_from_checkpoint=last)
    model.eval()


def _fit_base(model: BehaviourModel, training: BlockDataset, crossed: CollaborativeInputs) -> None:
    """Fit what is linear in the collaborative inputs: feedback, and the gates of the choice."""
    features, levels = [], []
    some = range(0, len(training), max(1, len(training) // BASE_BLOCKS))
    for batch in _batches(training, 64, some):
        asked = model.features(
            batch["items"],
            batch["levels"],
            batch["earlier"],
            batch["fold"],
            batch["timed"],
            crossed,
        )
        used = torch.arange(batch["items"].shape[1]) < batch["length"][:, None]
        features.append(asked[used])
        levels.append(batch["levels"][used])
    x, y = torch.cat(features), torch.cat(levels)
    _minimise(model.feedback_base, lambda: nn.functional.cross_entropy(model.feedback_base(x), y))

    with torch.no_grad():  # a start near which the likelihood is already sensible: log EASE
        model.gate_base.weight.zero_()
        model.gate_base.bias.copy_(torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0]))
    some = range(0, len(training), max(1, len(training) // GATE_BLOCKS))
    parts = [_gate_part(model, batch, crossed) for batch in _batches(training, 16, some)]
    _minimise(model.gate_base, lambda: torch.stack([_gate_loss(model, *p) for p in parts]).mean())


BASE_BLOCKS = 2000
"""Blocks, about 100,000 events, to which the linear part of the feedback head is first fitted:
it has a few hundred weights."""

GATE_BLOCKS = 128
"""Blocks to which the gates are first fitted: there are few gates, and each place of a block
costs a catalogue."""


def _gate_part(
    model: BehaviourModel, batch: dict[str, Any], crossed: CollaborativeInputs
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gate features, scores, consumed items and targets at four places of each block."""
    n = batch["items"].shape[1]
    at = torch.linspace(min(1, n - 1), n - 1, 4).long().unique()
    ease, coming = model.choice_scores(batch["items"], batch["earlier"], batch["fold"], crossed, at)
    rank, timed = batch["rank"][:, None, :], batch["timed"]
    later = (rank >= at[:, None]) & (rank <= model.config.window)
    target = torch.where(timed[:, None, None], rank == at[:, None], later)
    used = (at < batch["length"][:, None]) & target.any(-1)
    scores = torch.stack(
        [
            s.expand_as(ease)
            for s in scores_of(model.log_popularity, ease, coming, model.inputs.floor[0])
        ],
        -1,
    )
    count = batch["earlier"]["levels"].sum(-1)[:, None] + at
    asked = gate_features(count)
    target = target[used] / target[used].sum(-1, keepdim=True)
    return asked[used], scores[used], (rank < at[:, None])[used], target


def _gate_loss(
    model: BehaviourModel, asked: Tensor, scores: Tensor, gone: Tensor, target: Tensor
) -> Tensor:
    raw = torch.einsum("pg,pig->pi", model.gate_base(asked), scores)
    said = raw.masked_fill(gone, -torch.inf).log_softmax(-1)
    return -(said.masked_fill(target == 0, 0) * target).sum(-1).mean()


def _minimise(layer: nn.Linear, loss: Callable[[], Tensor]) -> None:
    """Fit one linear layer by L-BFGS, with a little weight decay."""
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss() + 1e-4 * layer.weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)


def _batches(training: BlockDataset, size: int, rows: range) -> Iterator[dict[str, Any]]:
    for at in range(0, len(rows), size):
        yield training.collate([training[i] for i in rows[at : at + size]])


class _TowerTrainer(Trainer):
    """The Trainer, with cross-fitted inputs in fitting and the model's own in validation."""

    def __init__(self, crossed: CollaborativeInputs, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crossed = crossed

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        return model(**inputs, inputs=self.crossed).loss

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any
    ) -> tuple[Tensor, None, None]:
        with torch.inference_mode():
            return model(**self._prepare_inputs(inputs)).loss.detach(), None, None


class _EpochOrders(TrainerCallback):
    """Gives each epoch its own orders, the same after a resume."""

    def __init__(self, training: BlockDataset) -> None:
        self.training = training

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        self.training.epoch = round(state.epoch or 0)


class _FiniteLoss(TrainerCallback):
    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        for name in ("loss", "eval_loss"):
            value = (logs or {}).get(name, 0.0)
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} at step {state.global_step}: the fit diverged. Lower "
                    f"learning_rate (now {args.learning_rate}), and look for extreme feedback "
                    f"values in the log."
                )


class _Progress(ProgressCallback):
    """The progress bar without a printed line for every record."""

    def on_log(self, *_: Any, **__: Any) -> None:
        """Records go to TensorBoard."""
