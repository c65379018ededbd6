"""Fitting the behaviour tower with the Hugging Face Trainer."""

from __future__ import annotations

import math
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

from audience.reward_models.bases import fit_bases
from audience.reward_models.behaviour import BehaviourModel
from audience.reward_models.blocks import BlockDataset, collate
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

    What hangs on the collaborative inputs alone is fitted first, so the transformer starts from
    their calibrated prediction and learns what they miss.

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
        fit_bases(model, training, crossed, seed)
    model.freeze_bases()  # the transformer learns what they miss
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
            data_collator=collate,
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
