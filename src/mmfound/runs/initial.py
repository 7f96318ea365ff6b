"""Weights to begin a new run with, from an earlier one."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mmfound import weights
from mmfound.callbacks.ema import average_in
from mmfound.callbacks.export_weights import exported_name
from mmfound.errors import ConfigError
from mmfound.interop import foreign
from mmfound.runs import saved
from mmfound.runs.checkpoint_io import DurableIO
from mmfound.strategies.whole import is_folder_checkpoint


def load_initial(task: nn.Module, path: Path) -> None:
    """Load the weights of a run folder, a checkpoint, an export or another library into a task; nothing else of it.

    Args:
        task: of which every weight must be there, in its shape.
        path: a run folder (its newest good checkpoint), a checkpoint (its average, where it has one to evaluate
            with), an export, or weights of another library's CLIP or SigLIP for a `DualEncoder`. A diffusion stage may
            have more channels beside x_t than there (`Stage.fitted`).

    Raises:
        ConfigError: when there is no such thing, or it does not fit.
        CheckpointError: when it is damaged.
    """
    if not path.exists():
        raise ConfigError(f"init_from: there is no {path}; it takes a run folder, a checkpoint, or an export")
    if (path / weights.CONFIG).is_file():
        module, found = getattr(task, exported_name(task)), weights.tensors(path)
    elif foreign.is_foreign(path) and foreign.is_known(path):
        module = getattr(task, exported_name(task))
        found = foreign.weights_for(module, path)
    else:
        module, found = task, _of_checkpoint(path)
    problem = weights.load(module, _fitted(module, found))
    if problem is not None:
        raise ConfigError(f"init_from: {path} does not fit this recipe's model: {problem}")


def _fitted(module: Any, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a module that has grown since takes them, where it says how (`Stage.fitted`)."""
    return module.fitted(found) if hasattr(module, "fitted") else found


def _of_checkpoint(path: Path) -> dict[str, Tensor]:
    chosen: Path | None = path
    if path.is_dir() and not is_folder_checkpoint(path):
        chosen, _ = saved.newest_good(path)
    if chosen is None:
        raise ConfigError(f"init_from: {path} has no checkpoint and is no export")
    checkpoint = DurableIO().load_checkpoint(chosen)
    if "state_dict" not in checkpoint:
        raise ConfigError(f"init_from: {chosen} holds no state_dict, but {', '.join(list(checkpoint)[:5])}")
    return {**checkpoint["state_dict"], **average_in(checkpoint)}
