"""The one LightningCLI, over `Task` and `LightningDataModule`."""

import shlex
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mmfound.callbacks.divergence import Divergence
from mmfound.cli import install, precision, ranks, report, results, start
from mmfound.cli.arguments import Arguments
from mmfound.cli.fitting import Fitting
from mmfound.cli.misfit import ERRORS, misfit
from mmfound.cli.mistakes import refused
from mmfound.cli.parser import MODE, RecipeParser
from mmfound.errors import ConfigError, Preempted, RunEnded, user_error
from mmfound.evaluation.evaluator import Evaluator
from mmfound.runs import durable, folder, launched, network, saved, slurm, summary, world
from mmfound.runs.checkpoint_io import DurableIO
from mmfound.runs.environment import as_json
from mmfound.runs.initial import load_initial
from mmfound.runs.lock import Lock
from mmfound.runs.saved import Saving
from mmfound.runs.signals import StopSignals
from mmfound.runs.summary import Summary
from mmfound.runs.upkeep import Upkeep
from mmfound.strategies.folders import FolderSaving
from mmfound.tasks.base import Task

_LEAVE_TOGETHER = timedelta(minutes=3)  # the first rank may have to wait for Slurm
NOT_SAVED = ("config", "ckpt_path", "weights_only", "verbose", "return_predictions")


class Finished(Exception):
    """There is nothing left to train."""


class Cli(LightningCLI):
    """Parses the recipe, prepares the run folder, finds the weights, and calls the Trainer.

    Args:
        subcommand: fit, validate, test or predict.
        arguments: the rest of the command line.
        at_exit: what is to be undone in the end.
    """

    def __init__(self, subcommand: str, arguments: Arguments, at_exit: ExitStack) -> None:
        self.chosen = subcommand
        self.arguments = arguments
        self.at_exit = at_exit
        self.signals = StopSignals()
        self.keeps: Upkeep | None = None
        self.only_ends = False  # all steps are done, and the run was ended before it had evaluated and exported
        self.checkpoint: Path | None = None
        self.run_folder = Path()
        self.new_config: Path | None = None  # that this start has written
        self.lock: Lock | None = None  # where this process owns the run folder
        self.launched: dict[str, int] = {}  # devices and nodes, where a launcher has started the processes
        super().__init__(
            Task,
            LightningDataModule,
            save_config_callback=None,
            trainer_defaults=install.TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=RecipeParser,
            parser_kwargs={"prog": "mmfound", "parser_mode": MODE, subcommand: {"parser_mode": MODE}},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=[subcommand, *arguments.argv],
        )

    def subcommands(self) -> dict[str, set[str]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Only the one that runs: building the parser of another costs a second."""
        return {self.chosen: LightningCLI.subcommands()[self.chosen]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The recipe's keys beside Lightning's."""
        parser.add_argument("--evaluators", type=list[Evaluator], default=[], help="Run at every validation and test.")
        parser.add_argument("--run_dir", type=str | None, default=None, help="The run folder; runs/SYSTEM/RECIPE.")
        parser.add_argument(
            "--init_from", type=str | None, default=None, help="Weights to begin with: a run, a checkpoint, an export."
        )
        parser.add_class_arguments(Saving, "checkpoints", help="When to save, and what stays.")
        parser.add_class_arguments(Divergence, "divergence", help="What to do about losses that are not finite.")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments given, whatever the process's own are."""
        self.config = parser.parse_args(args)  # pyright: ignore[reportArgumentType]

    def _parse_ckpt_path(self) -> None:
        """Lightning would let the hyper-parameters in a checkpoint override the recipe in silence."""

    @property
    def settings(self) -> Any:
        """The recipe with everything resolved."""
        return self.config[self.chosen]

    @property
    def command(self) -> str:
        """The options that name this run again."""
        options = [("--config", name) for name in self.arguments.names]
        if self.arguments.has("--run_dir"):
            options.append(("--run_dir", str(self.run_folder)))
        return shlex.join(word for option in options for word in option)

    @property
    def steps_done(self) -> int:
        """Optimiser steps of the checkpoint that the run goes on from."""
        return (saved.step_of(self.checkpoint) if self.checkpoint else None) or 0

    def before_instantiate_classes(self) -> None:
        """Everything that can fail before networks are built and data is opened."""
        settings = self.settings
        if settings.trainer.default_root_dir is not None:
            raise ConfigError(f"trainer.default_root_dir is {settings.trainer.default_root_dir}; set run_dir instead")
        if world.from_environment().ranks > 1:
            network.check_interfaces()
        if isinstance(settings.trainer.val_check_interval, float):  # a share of an epoch
            settings.trainer.check_val_every_n_epoch = settings.trainer.check_val_every_n_epoch or 1
        self.launched = ranks.launched(settings.trainer)
        self.run_folder = start.choose_folder(self.arguments, settings.run_dir)
        settings.run_dir = str(self.run_folder)
        if not self.run_folder.exists():
            folder.check_space(self.run_folder)
        if self._keeps_anything():
            self.at_exit.enter_context(self.signals.installed())
            if start.is_first_host():
                self._own_folder()  # which makes room, where a full disk has cut a checkpoint off
        folder.check_space(self.run_folder)
        share = start.share() if self._keeps_anything() else durable.WHOLE  # a fit compares what its ranks have found
        if self.chosen != "fit" and settings.ckpt_path is None and start.brings_weights(settings.model):
            return
        self.checkpoint = start.choose_checkpoint(self.chosen, self.run_folder, settings.ckpt_path, self.command, share)
        if self.chosen == "fit" and self.checkpoint is not None:
            reached = start.reached(self.checkpoint, settings.trainer)
            self.only_ends = reached is not None
            ended = summary.read(self.run_folder)
            if reached is not None and ended.get("exit_code", 0) == 0:
                raise Finished(report.finished(self.run_folder, self.steps_done, *reached))
            if ended.get("exit_reason") in ("stopped", "max_epochs") and self._config_is_kept():
                raise Finished(report.ended(self.run_folder, self.steps_done, ended["exit_reason"]))

    def _keeps_anything(self) -> bool:
        return self.chosen == "fit" and not self.settings.trainer.fast_dev_run

    @rank_zero_only
    def _own_folder(self) -> None:
        """Keep other processes out, and sweep away what killed ones have left."""
        self.lock = Lock(self.run_folder).acquire()
        self.at_exit.callback(self.lock.release)
        self.at_exit.push(self._note_failure)
        for path in durable.sweep(self.run_folder / saved.FOLDER):
            report.say(f"removed {path}, which was never finished")

    def _note_failure(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        """What ended a start outside of training, where a callback does it; and forget a recipe that was refused."""
        callbacks = getattr(getattr(self, "trainer", None), "callbacks", [])
        summaries = [callback for callback in callbacks if isinstance(callback, Summary)]
        if error is None or isinstance(error, Finished):
            return
        with suppress(OSError):  # of a full disk
            if self.new_config is not None and not any(callback.started for callback in summaries):
                self.new_config.unlink()
            if not any(callback.has_ended for callback in summaries):
                summary.note_failure(self.run_folder, error)

    def instantiate_classes(self) -> None:
        """As Lightning's; a value that a constructor refuses comes without jsonargparse's listing of everything."""
        try:
            return super().instantiate_classes()
        except ValueError as error:
            cause = refused(error)
        raise cause  # out here, so that it does not get the error around it as its context

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """With what every run gets."""
        built = self.config_init[self.chosen]
        self.keeps = install.upkeep(built, self.run_folder, self.signals, self.lock) if self._keeps_anything() else None
        logger = built["trainer"].get("logger")
        kwargs["callbacks"] = install.callbacks(built, self.run_folder, self._seed(), self._resolved(), self.keeps)
        kwargs["logger"] = install.loggers(logger, self.run_folder, self.steps_done) if self.chosen == "fit" else False
        kwargs["default_root_dir"] = str(self.run_folder)
        try:
            trainer = super().instantiate_trainer(**kwargs, **self.launched)
        except MisconfigurationException as error:
            raise ConfigError(f"trainer: {error} (`mmfound doctor` shows what this machine has)") from error
        slurm.leave_to_us(trainer)
        precision.compute_in_float32_if_faster(trainer)
        if isinstance(trainer.strategy, FolderSaving):
            trainer.strategy.trusted = self.settings.weights_only is False
        if self.keeps is not None:
            self.keeps.attach(trainer)
        else:
            trainer.strategy.checkpoint_io = DurableIO()  # reads what several ranks have written
        return trainer

    def _config_is_kept(self) -> bool:
        """Whether the recipe is that of the start before."""
        last = folder.newest_text(self.run_folder, "config.yaml")
        return last is not None and yaml.safe_load(last.read_text(encoding="utf-8")) == self._resolved()

    def _resolved(self) -> dict[str, Any]:
        """The whole recipe as plain values."""
        self._dump_config()
        return {key: value for key, value in self.config_dump.items() if key not in NOT_SAVED}

    def _seed(self) -> int:
        seed = self._get(self.config, "seed_everything")
        return 0 if isinstance(seed, bool) else int(seed)

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """The weights found; pickled objects in them are refused unless the user says otherwise."""
        kwargs = super()._prepare_subcommand_kwargs(subcommand)
        kwargs["ckpt_path"] = None if self.checkpoint is None else str(self.checkpoint)
        if "verbose" in kwargs:
            kwargs["verbose"] = False  # we print the scores ourselves
        if kwargs.get("weights_only") is None:
            kwargs["weights_only"] = True
        return kwargs

    def _run_subcommand(self, subcommand: str) -> None:
        try:
            if self.keeps is None:
                super()._run_subcommand(subcommand)
            else:
                self._fit(self.keeps)
        except Preempted:
            self._requeue()
            raise
        except ERRORS as error:
            raise misfit(error, self.checkpoint) or error from error.__cause__

    def _fit(self, keeps: Upkeep) -> None:
        """Train until the end, going back as often as the recipe allows."""
        self._keep()
        if self.checkpoint is not None:
            report.say(f"going on from {self.checkpoint}")
        elif self.settings.init_from is not None:
            load_initial(self.model, Path(self.settings.init_from))
            report.say(f"beginning with the weights of {self.settings.init_from}")
        launched.prepare(self.trainer)
        self.at_exit.push(self._end_ranks)
        if self.only_ends:
            keeps.end_again(self.trainer)
        fitting = Fitting(self.trainer, self.model, self.datamodule, self.run_folder)
        fitting.run(keeps, self.checkpoint, self._fit_from)
        if keeps.stopping.ended_by is not None:
            raise keeps.stopping.ended_by
        report.say(report.after_fit(self.run_folder, self.command))

    def _fit_from(self, checkpoint: Path | None) -> None:
        self.checkpoint = checkpoint
        self.trainer.fit(**self._prepare_subcommand_kwargs("fit"))

    def _requeue(self) -> None:
        """Go on by itself under Slurm; the other ranks stay meanwhile, for `srun` may kill all when one has ended."""
        if self.keeps is None or not slurm.job():
            return
        if self.lock is not None:
            report.say(slurm.requeue())
        self.keeps.agreement.meet(_LEAVE_TOGETHER)

    def _end_ranks(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        agreed = error is None or isinstance(user_error(error), RunEnded)
        launched.end(self.trainer, 30.0 if agreed else 5.0)

    @rank_zero_only
    def _keep(self) -> None:
        summary.begin(self.run_folder)
        config = self._resolved()
        last = folder.newest_text(self.run_folder, "config.yaml")
        text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
        if last is not None and self.checkpoint is not None:
            for line in folder.changes(yaml.safe_load(last.read_text(encoding="utf-8")), config):
                report.say(f"changed since {last.name}: {line}")
        kept = folder.keep_text(self.run_folder, "config.yaml", text)
        self.new_config = None if kept == last else kept
        folder.keep_text(self.run_folder, "env.json", as_json())

    def after_validate(self) -> None:
        """Say and keep the scores."""
        self._scores("val")

    def after_test(self) -> None:
        """Say and keep the scores."""
        self._scores("test")

    def after_predict(self) -> None:
        """Say where they are."""
        report.say(f"{self.checkpoint or self.run_folder}: predictions in {self.run_folder / 'predictions'}")

    @rank_zero_only
    def _scores(self, split: str) -> None:
        metrics = summary.numbers(self.trainer.callback_metrics)
        evaluators = self.config_init[self.chosen]["evaluators"]
        tables = results.tables_of(evaluators)
        report.say(f"{self.checkpoint or self.run_folder}:\n{report.table(metrics)}")
        if tables:
            report.say(results.shown(tables, self.run_folder / results.FOLDER, split))
        about = {
            "weights": None if self.checkpoint is None else str(self.checkpoint),
            "step": self.steps_done,
            "seed": self._seed(),
            "sources": results.fingerprints(evaluators),
            "model": self._resolved().get("model"),
        }
        report.say(f"written: {results.write(self.run_folder, split, metrics, tables, about)}")
        results.log(self.run_folder, split, self.steps_done, metrics, tables)
        if self.checkpoint is None or self.checkpoint.parent == self.run_folder / saved.FOLDER:
            before = summary.read(self.run_folder)
            summary.write(self.run_folder, {**before, "metrics": {**before.get("metrics", {}), **metrics}})
