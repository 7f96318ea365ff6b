"""What every run gets without asking: seeding, evaluation, logging, progress, checkpoints, summary."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mmfound.abilities import EmbedsImagesAndText
from mmfound.callbacks import (
    BestCaptions,
    Ema,
    Evaluations,
    ExportWeights,
    LogHyperparameters,
    Predictions,
    Progress,
    RunLog,
    StepSeed,
)
from mmfound.callbacks.export_weights import exported_name
from mmfound.errors import ConfigError
from mmfound.runs.intervals import StepIntervals
from mmfound.runs.lock import Lock
from mmfound.runs.metrics import MetricsCsv
from mmfound.runs.signals import StopSignals
from mmfound.runs.summary import Summary
from mmfound.runs.upkeep import Upkeep

CHECKPOINT_EVERY_N_STEPS = 500

TRAINER_DEFAULTS: dict[str, Any] = {
    "check_val_every_n_epoch": None,  # recipes count steps
    "enable_model_summary": False,
    "log_every_n_steps": 20,
    "num_sanity_val_steps": 0,
    "use_distributed_sampler": False,  # the DataModule's order knows the ranks
}


def upkeep(settings: Mapping[str, Any], run: Path, signals: StopSignals, lock: Lock | None) -> Upkeep:
    """What saves, stops and watches a fit.

    Args:
        settings: the recipe with its parts built.
        run: the run folder.
        signals: what asks the run to stop.
        lock: on the run folder; None where another rank holds it.
    """
    trainer = settings["trainer"]
    interval = trainer.get("val_check_interval")
    every = interval if isinstance(interval, int) else CHECKPOINT_EVERY_N_STEPS
    saves = trainer.get("enable_checkpointing") is not False
    saving = settings["checkpoints"] if saves else None
    lost = lock.lost if lock is not None else lambda: None
    return Upkeep.of(run, signals, lost, saving, settings["divergence"], every)


def callbacks(
    settings: Mapping[str, Any], run: Path, seed: int, config: Mapping[str, Any], keeps: Upkeep | None
) -> list[Callback]:
    """Ours and then the recipe's own callbacks; one of the recipe's takes the place of ours of the same class.

    Args:
        settings: the recipe with its parts built: `trainer` (arguments), `model`, `data`, `evaluators`.
        run: the run folder.
        seed: the recipe's `seed_everything`.
        config: the resolved recipe.
        keeps: what saves a fit; None where nothing is saved and summed up.
    """
    trainer = settings["trainer"]
    given = trainer.get("callbacks") or []
    given = list(given) if isinstance(given, (list, tuple)) else [given]
    averages = [callback for callback in given if isinstance(callback, Ema)]  # evaluated, so before the evaluations
    predictions = Predictions(run / "predictions")  # silent in the other subcommands
    ours: list[Callback] = [StepSeed(seed), Evaluations(settings["evaluators"]), predictions]
    if trainer.get("enable_progress_bar") is not False:
        ours.append(Progress())
    if keeps is not None:
        ours = [*keeps.callbacks, *ours, *_kept(settings, run, config, keeps)]
    kinds = {type(callback) for callback in given}
    rest = [callback for callback in given if callback not in averages]
    return [*averages, *(callback for callback in ours if type(callback) not in kinds), *rest]


def _kept(settings: Mapping[str, Any], run: Path, config: Mapping[str, Any], keeps: Upkeep) -> list[Callback]:
    """What leaves something in the run folder."""
    data, task, log = settings["data"], settings["model"], RunLog()
    summary = Summary(run, log.totals, lambda: keeps.stopping.ended_by)
    kept = [StepIntervals(), log, LogHyperparameters(config)]
    with suppress(ConfigError):  # a task of several modules names the one to export, or exports none
        exported_name(task)
        kept.append(ExportWeights(config["model"]))
    has_texts = getattr(data, "tokenizer", None) is not None and getattr(data, "val_source", None) is not None
    if has_texts and isinstance(task, EmbedsImagesAndText):
        kept.append(BestCaptions())
    return [*kept, summary]


def loggers(given: Any, run: Path, steps_done: int) -> list[Logger] | bool:
    """TensorBoard events and `metrics.csv` in the run folder; a recipe's own logger takes the place of the first.

    Args:
        given: the recipe's `trainer.logger`: None or true for ours, false for none.
        run: the run folder.
        steps_done: optimiser steps of the checkpoint that the run goes on from; what was logged later is hidden.
    """
    if given is False:
        return False
    if given is None or given is True:
        given = Events(run, steps_done)
    first = list(given) if isinstance(given, (list, tuple)) else [given]
    return [*first, MetricsCsv(run, steps_done)]


class Events(TensorBoardLogger):
    """TensorBoard events straight in the run folder, without a copy of the configuration beside `config.yaml`."""

    def __init__(self, run: Path, steps_done: int = 0) -> None:
        super().__init__(str(run), name="", version="", default_hp_metric=False, purge_step=steps_done)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """All but Lightning's epoch, which is one ahead at a validation that is caught up on."""
        super().log_metrics({name: value for name, value in metrics.items() if name != "epoch"}, step)

    def rewind(self, steps_done: int) -> None:
        """Hide what was logged after a step that the run goes back to."""
        self.finalize("failed")
        self._experiment = None
        self._kwargs["purge_step"] = steps_done

    @rank_zero_only
    def save(self) -> None:
        """Flush the events."""
        self.experiment.flush()
