"""Hands the trained module to the next stage."""

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.tensor import DTensor

from mmfound.callbacks.kept_config import kept_config
from mmfound.errors import ConfigError
from mmfound.weights import export


class ExportWeights(Callback):
    """Writes `export/` in the run folder when fit ends.

    What is exported is the module among the task's constructor arguments (`encoder` of `Contrastive`); a task with
    several names the one in an attribute `export_module`.

    Args:
        config: the recipe's `model`, resolved: class_path and init_args of the task. By default it is read from the
            newest `config*.yaml` in the run folder.
        folder: where to; `export` in the run folder by default.
    """

    def __init__(self, config: Mapping[str, Any] | None = None, folder: str | None = None) -> None:
        self.config = config
        self.folder = folder
        self._state: dict[str, Tensor] = {}
        self._image_size: int | None = None

    def state_dict(self) -> dict[str, Any]:
        """For a start of the run that sees no picture."""
        return {"image_size": self._image_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        self._image_size = state_dict["image_size"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the module, before the first step."""
        if stage == "fit":
            exported_name(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note the size of the pictures."""
        if self._image_size is None and isinstance(batch, Mapping) and "image" in batch:
            self._image_size = int(batch["image"].shape[-1])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the weights while all ranks are there; writing waits until the run has saved its own."""
        self._state = full_state_dict(getattr(pl_module, exported_name(pl_module)))

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write."""
        state, self._state = self._state, {}
        if not trainer.is_global_zero or not state:
            return
        root = Path(trainer.default_root_dir)
        name = exported_name(pl_module)
        config = (self.config or kept_config(root, "ExportWeights")["model"])["init_args"][name]
        tokenizer = getattr(getattr(trainer, "datamodule", None), "tokenizer", None)
        write_export(state, config, self._image_size, tokenizer, Path(self.folder or root / "export"))


def write_export(
    state: Mapping[str, Tensor], config: Mapping[str, Any], image_size: int | None, tokenizer: Any, folder: Path
) -> None:
    """Export a module with what is known of its pictures.

    Args:
        state: its whole state dict.
        config: its class_path and init_args.
        image_size: side of the pictures that it was trained on.
        tokenizer: of its texts, or None.
        folder: where to.
    """
    image = {"size": image_size, **_normalisation(config)} if image_size else None
    export(state, config, folder, tokenizer=tokenizer, image=image)


def exported_name(task: nn.Module) -> str:
    """The task's attribute that is exported.

    Raises:
        ConfigError: when it is not clear which.
    """
    arguments = inspect.signature(type(task).__init__).parameters
    modules = [name for name in arguments if isinstance(getattr(task, name, None), nn.Module)]
    return choose(getattr(task, "export_module", None), modules, type(task).__name__)


def choose(chosen: Any, modules: Sequence[str], task: str) -> str:
    """Of a task's modules the one that is exported.

    Args:
        chosen: what the task says, as the class attribute `export_module`.
        modules: names of its constructor arguments that are modules.
        task: the name of its class.

    Raises:
        ConfigError: when it is not clear which.
    """
    if chosen is None and len(modules) == 1:
        return modules[0]
    if not isinstance(chosen, str) or chosen not in modules:
        raise ConfigError(
            f"{task} has the modules {list(modules)} among its arguments, and export_module is {chosen!r}. "
            f"Set the class attribute export_module to one of them, or take ExportWeights out."
        )
    return chosen


def full_state_dict(module: nn.Module) -> dict[str, Tensor]:
    """The whole state dict, on rank 0 at least, of a module that may be sharded; all ranks call it."""
    if any(isinstance(p, DTensor) for p in module.parameters()):
        return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))  # pyright: ignore
    if any(hasattr(p, "ds_id") for p in module.parameters()):
        from deepspeed.runtime.zero import GatheredParameters  # only where the strategy has loaded it already

        with GatheredParameters(list(module.parameters())):
            return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}
    return module.state_dict()


def _normalisation(config: Any) -> dict[str, Any]:
    """The first mean and std among the arguments."""
    if isinstance(config, Mapping):
        if config.get("mean") is not None and config.get("std") is not None:
            return {"mean": config["mean"], "std": config["std"]}
        return next((found for value in config.values() if (found := _normalisation(value))), {})
    return {}
