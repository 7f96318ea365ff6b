"""What a command starts from: its run folder and its weights."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from mmfound.cli.arguments import Arguments
from mmfound.errors import CheckpointError, ConfigError
from mmfound.runs import durable, folder, saved, world


def choose_folder(arguments: Arguments, run_dir: str | None) -> Path:
    """The run folder: the command line's, else that of a saved configuration, else the recipe's, else by its place.

    Args:
        arguments: the command line.
        run_dir: its `--run_dir`, or the recipe's.
    """
    saved = bool(arguments.configs) and folder.is_saved(arguments.configs[0])
    if run_dir is not None and (arguments.has("--run_dir") or not saved):
        return Path(run_dir)
    return folder.default_folder(arguments.configs)


def choose_checkpoint(
    subcommand: str, run: Path, given: str | Path | None, command: str, share: durable.Share = durable.WHOLE
) -> Path | None:
    """The checkpoint that the command line names, or the newest of the run folder; None for a fit from nothing.

    Args:
        subcommand: fit, validate, test or predict.
        run: the run folder.
        given: `--ckpt_path`; "none" for a fit from nothing, in an empty folder only.
        command: options that name this run, for the error.
        share: this process of how many that look and then compare, see `durable.damage`.

    Raises:
        ConfigError: when there are no weights, or none where they were said to be.
        CheckpointError: when there are, and they are damaged.
    """
    newest = _newest_good(run, share) if given is None else saved.newest(run)
    if given is None:
        if newest is None and subcommand != "fit":
            raise ConfigError(
                f"no weights to {subcommand}: {run} has no checkpoint; "
                f"train first with `mmfound fit {command}`, or name one with --ckpt_path"
            )
        return newest
    if str(given).lower() != "none":
        return _given(subcommand, Path(given), newest)
    if subcommand != "fit":
        raise ConfigError(f"--ckpt_path none: {subcommand} needs weights")
    if newest is not None:
        raise ConfigError(f"--ckpt_path none needs an empty run folder, and {newest} is there; name another --run_dir")
    return None


def brings_weights(model: Any) -> bool:
    """Whether the recipe's model needs no checkpoint to be evaluated, as its class says by `needs_checkpoint`."""
    module, _, name = model.class_path.rpartition(".")
    return getattr(getattr(import_module(module), name), "needs_checkpoint", True) is False


def reached(checkpoint: Path, trainer: Any) -> tuple[str, int] | None:
    """The end that a run has come to: max_steps or max_epochs of the recipe, and its value; None when it has not.

    Args:
        checkpoint: its newest.
        trainer: the recipe's `trainer`.
    """
    facts = durable.manifest(checkpoint)
    epochs = facts.get("epochs", 0) if facts.get("kind") == "last" else 0
    for setting, done in {"max_steps": saved.step_of(checkpoint) or 0, "max_epochs": epochs}.items():
        value = getattr(trainer, setting) or 0
        if 0 < value <= done:
            return setting, value
    return None


def is_first_host() -> bool:
    """False on further hosts, where launchers number them: their first process has local rank 0, too."""
    own = ("NODE_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_NODEID")
    names = ("GROUP_RANK",) if "GROUP_RANK" in os.environ else own  # torchrun numbers them anew, also within Slurm
    numbers = (os.environ.get(name, "0") for name in names)
    return all(not number.isdigit() or int(number) == 0 for number in numbers)


def share() -> durable.Share:
    """This process of how many."""
    place = world.from_environment()
    return place.rank, place.ranks


def older(run: Path, step: int) -> Path:
    """The checkpoint that all ranks may find good, where this one or another has found the newest damaged.

    Args:
        run: the run folder.
        step: of the oldest that any rank has found; below zero for none.

    Raises:
        ConfigError: when there is none, as where ranks do not see the same folder.
    """
    good = _newest_good(run, share(), step) if step >= 0 else None
    if good is None:
        raise ConfigError(
            f"ranks have found different checkpoints in {run / saved.FOLDER}, and one has found "
            f"{'none' if step < 0 else f'none after step {step}'}; the run folder must be the same on all machines: "
            "put it on a file system that they share"
        )
    return good


def _newest_good(run: Path, share: durable.Share, at_most: int | None = None) -> Path | None:
    good, damaged = saved.newest_good(run, share, at_most)
    for line in damaged:
        rank_zero_warn(f"damaged and left out: {run / saved.FOLDER}/{line}")
    return good


def _given(subcommand: str, path: Path, newest: Path | None) -> Path:
    if not path.exists():
        raise ConfigError(f"no checkpoint {str(path)!r}; --ckpt_path takes a file or folder that exists")
    path = path.parent / path.readlink() if path.is_symlink() else path  # last.ckpt and best.ckpt
    reason = durable.damage(path) if durable.manifest(path) else None
    if reason is not None:
        raise CheckpointError(f"checkpoint {path}: {reason}; name another")
    step, last = saved.step_of(path), saved.step_of(newest) if newest else None
    same_run = newest is not None and path.parent.resolve() == newest.parent.resolve()
    if subcommand == "fit" and same_run and step is not None and last is not None and step < last:
        raise ConfigError(
            f"--ckpt_path {path} is older than {newest}, which the run would overtake again; "
            "name another --run_dir to branch off, or move the newer ones away"
        )
    return path
