"""Checkpoints into one file, and into exports."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmfound.building import build
from mmfound.callbacks.ema import average_in
from mmfound.callbacks.export_weights import choose, write_export
from mmfound.callbacks.kept_config import kept_config
from mmfound.errors import CheckpointError, ConfigError
from mmfound.runs import durable, saved
from mmfound.runs.lock import Lock
from mmfound.strategies.whole import whole_checkpoint

_OF_FILES = ("file", "folder", "bytes", "sha256", "files")  # in a manifest


def find(path: Path) -> Path:
    """The checkpoint that a path names: itself, or the newest good one of a run folder.

    Raises:
        ConfigError: when there is none.
        CheckpointError: when it is damaged.
    """
    if not path.exists():
        raise ConfigError(f"no checkpoint {str(path)!r}; name a run folder, or a checkpoint in its {saved.FOLDER}/")
    if (path / saved.FOLDER).is_dir():
        newest, _ = saved.newest_good(path)
        if newest is None:
            raise ConfigError(f"{path} has no checkpoint yet; train first")
        return newest
    path = path.parent / path.readlink() if path.is_symlink() else path
    reason = durable.damage(path) if durable.manifest(path) else None
    if reason is not None:
        raise CheckpointError(f"checkpoint {path}: {reason}; name another")
    return path


def to_file(checkpoint: Path, out: Path, trusted: bool = False) -> None:
    """Write a checkpoint as one file, whole or not at all.

    Args:
        checkpoint: the folder.
        out: the file; where it is the checkpoint itself, it takes its place, unless the run is going on.
        trusted: skip the look for pickles that run code.

    Raises:
        LockedError: when it would take the place of a checkpoint of a run that is going on.
        DiskFullError: when there is no room; nothing is lost then.
    """
    of_a_run = checkpoint.parent.name == saved.FOLDER and out.parent.resolve() == checkpoint.parent.resolve()
    lock = Lock(checkpoint.parent.parent).acquire() if of_a_run else None
    try:
        facts = {name: value for name, value in durable.manifest(checkpoint).items() if name not in _OF_FILES}
        found = whole_checkpoint(checkpoint, trusted)
        out.parent.mkdir(parents=True, exist_ok=True)
        durable.write(out, lambda file: torch.save(found, file), facts, lambda: None)
    finally:
        if lock is not None:
            lock.release()


def to_export(checkpoint: Path, folder: Path, trusted: bool = False) -> None:
    """Write the trained module of a checkpoint in a run folder as an export.

    Raises:
        ConfigError: when the run folder does not say what was trained.
    """
    run = checkpoint.parent.parent
    config = kept_config(run, "mmfound convert --export")
    found = whole_checkpoint(checkpoint, trusted)
    weights: dict[str, Tensor] = {**found["state_dict"], **average_in(found)}
    name = _exported(config["model"], weights)
    state = {key.removeprefix(f"{name}."): value for key, value in weights.items() if key.startswith(f"{name}.")}
    size = found.get("callbacks", {}).get("ExportWeights", {}).get("image_size")
    write_export(state, config["model"]["init_args"][name], size, _tokenizer(config, run), folder)


def _exported(model: dict[str, Any], weights: dict[str, Tensor]) -> str:
    module, _, kind = model["class_path"].rpartition(".")
    try:
        task = getattr(import_module(module), kind)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"the run's task {model['class_path']} cannot be imported from here: {error}") from error
    trained = dict.fromkeys(name.partition(".")[0] for name in weights)
    return choose(getattr(task, "export_module", None), [name for name in trained if name in model["init_args"]], kind)


def _tokenizer(config: Any, run: Path) -> Any:
    described = config.get("data", {}).get("init_args", {}).get("tokenizer")
    if described is None:
        return None
    tokenizer = build(described, f"{run}/config.yaml", trust=True)  # the user's own recipe
    tokenizer.setup(run)
    return tokenizer
