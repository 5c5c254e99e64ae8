"""Training of nnU-Net in a process of its own: `python -m phantomseg.studies.nnunet_train BUDGET`, a budget in JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from phantomseg.studies.nnunet import CONFIGURATION, DATASET, PLANS, NnUNetBudget

VALIDATED = 5  # training iterations an iteration of nnU-Net's own validation, as in its 250 and 50


class OutOfTime(Exception):
    """The minutes are spent."""


def train(budget: NnUNetBudget) -> None:
    """Train fold `all`, from the last checkpoint if there is one, without the final validation."""
    from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint

    if budget.device == "cuda":  # as its own command does
        torch.set_num_threads(1)
        torch.backends.cudnn.benchmark = True
    place = torch.device(budget.device)
    trainer = get_trainer_from_args(DATASET, CONFIGURATION, "all", budget.trainer, plans_identifier=PLANS, device=place)
    trainer.num_epochs = budget.epochs
    if budget.iterations is not None:
        trainer.num_iterations_per_epoch = budget.iterations
        trainer.num_val_iterations_per_epoch = max(1, budget.iterations // VALIDATED)
    trainer.save_every = 1
    maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
    if budget.minutes is not None:
        limit(trainer, 60 * budget.minutes - spent_seconds(trainer))
    try:
        trainer.run_training()
    except OutOfTime:
        trainer.on_train_end()  # writes the final checkpoint


def limit(trainer: Any, seconds: float) -> None:
    """Have the trainer raise `OutOfTime` after the step in which the time ends."""
    end = time.monotonic() + seconds

    def limited(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def run(batch: Any) -> Any:
            result = step(batch)
            if time.monotonic() >= end:
                raise OutOfTime
            return result

        return run

    trainer.train_step = limited(trainer.train_step)
    trainer.validation_step = limited(trainer.validation_step)


def spent_seconds(trainer: Any) -> float:
    """What the epochs before the checkpoint took."""
    times = trainer.logger.get_checkpoint()
    ends = times["epoch_end_timestamps"]
    return float(sum(ends) - sum(times["epoch_start_timestamps"][: len(ends)]))


if __name__ == "__main__":
    train(NnUNetBudget(**json.loads(sys.argv[1])))
