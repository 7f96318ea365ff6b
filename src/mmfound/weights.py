"""Exported modules: how one stage hands its weights to the next.

An export is a folder that describes itself: `module.yaml` (class_path, init_args, facts about pictures),
`module.safetensors`, and the tokenizer's own files. Nothing in it is unpickled.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MethodType
from typing import Any, Protocol

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmfound.building import build, expand, part_of
from mmfound.errors import ConfigError, DataError, DiskFullError
from mmfound.files import sync

CONFIG, WEIGHTS = "module.yaml", "module.safetensors"
_SCALARS = ("logit_scale", "logit_bias")  # of shape [1] in training, without dimensions in an export


class _Saves(Protocol):
    def save(self, folder: Path) -> None: ...


def export(
    module: nn.Module | Mapping[str, Tensor],
    config: Mapping[str, Any],
    folder: Path | str,
    *,
    tokenizer: _Saves | None = None,
    image: Mapping[str, Any] | None = None,
) -> None:
    """Write a module that `pretrained` builds again; an export that is there is replaced at once, or stays.

    Args:
        module: the module, or its full state dict.
        config: its class_path and init_args, as in a recipe; parts that were `pretrained` are written out.
        folder: where to.
        tokenizer: saved beside it.
        image: what pictures the module takes, such as size, mean and std; kept for who reads the export.

    Raises:
        ConfigError: when `folder` holds something else.
        DiskFullError: when there is no room.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / CONFIG).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is in the way of an export and holds something else; move it, or name another.")
    described = _plain({**expand(config, describe), **({"image": image} if image else {})})
    folder.parent.mkdir(parents=True, exist_ok=True)
    new, old = (folder.with_name(f".{folder.name}.{mark}.{os.getpid()}") for mark in ("new", "old"))
    try:
        new.mkdir()
        (new / CONFIG).write_text(
            yaml.safe_dump(described, sort_keys=False, allow_unicode=True, default_flow_style=None), encoding="utf-8"
        )
        save_file(_exported(module if isinstance(module, Mapping) else module.state_dict()), new / WEIGHTS)
        if tokenizer is not None:
            tokenizer.save(new)
        for path in new.iterdir():
            sync(path)
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
    except (OSError, SafetensorError) as error:
        if "No space left" in str(error):
            raise DiskFullError(
                f"no room to write the export {folder}: {error}. Make some, then export again."
            ) from error
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def pretrained(folder: Path | str, part: str | None = None, frozen: bool = True, trust: bool = False) -> nn.Module:
    """Rebuild an exported module, or one part of it, on the CPU.

    Args:
        folder: the export.
        part: dotted name of a submodule, such as `image_tower`; only that is built and read.
        frozen: without gradients, and in eval mode whatever the trainer calls.
        trust: allow classes from outside mmfound, torch.nn, timm and installed plug-ins, which can run any code.

    Raises:
        ConfigError: when there is no such export or part, or its classes are refused or do not fit.
        DataError: when its weights are damaged.
    """
    folder = Path(folder)
    config = describe(folder)
    user = str(folder / CONFIG)
    module = build(part_of(config, part, user), user, trust=trust)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{user} describes a {type(module).__name__}, which is no module; export one.")
    _load(module, _read(folder, f"{part}." if part else ""), user)
    if frozen:
        module.eval().requires_grad_(False)
        module.train = MethodType(_stay, module)  # pyright: ignore[reportAttributeAccessIssue]
    return module


def describe(folder: Path | str) -> dict[str, Any]:
    """What `module.yaml` of an export says: class_path, init_args and, where known, image.

    Raises:
        ConfigError: when there is none, or it is not readable.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise ConfigError(
            f"no exported module in {folder} ({CONFIG} is missing). Train it first, with the recipe whose run folder "
            f"is {Path(folder).parent}: mmfound fit --config ..., which exports at its end; or name another folder."
        )
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is damaged and cannot be read; export it again. ({error})") from error
    if not isinstance(config, dict) or not isinstance(config.get("class_path"), str):
        raise ConfigError(f"{path} names no class_path; export it again.")
    return config


def tensors(folder: Path | str) -> dict[str, Tensor]:
    """All weights of an export, by name.

    Raises:
        DataError: when they are damaged.
    """
    return _read(Path(folder), "")


def _stay(self: nn.Module, mode: bool = True) -> nn.Module:
    return self


def _exported(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors that share no memory, scalars without dimensions."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in state.items():
        tensor = value.detach().cpu().contiguous()
        if name.rpartition(".")[2] in _SCALARS and tensor.numel() == 1:
            tensor = tensor.reshape(())
        if tensor.untyped_storage().data_ptr() in seen:
            tensor = tensor.clone()
        seen.add(tensor.untyped_storage().data_ptr())
        tensors[name] = tensor
    return tensors


def _read(folder: Path, prefix: str) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.is_file():
        raise DataError(f"{path} is missing, though {CONFIG} is there; export it again.")
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 - not a dict
            return {name.removeprefix(prefix): file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is damaged and cannot be read; export it again. ({error})") from error


def _load(module: nn.Module, tensors: Mapping[str, Tensor], user: str) -> None:
    problem = load(module, tensors)
    if problem is not None:
        raise DataError(f"{WEIGHTS} does not fit {user}: {problem}. Export it again.")


@torch.no_grad()
def load(module: nn.Module, tensors: Mapping[str, Tensor]) -> str | None:
    """Load all weights of a module by name; scalars fit whether they have a dimension or not.

    Returns:
        What does not fit, with the first name of each kind; None when all was loaded. Nothing is loaded otherwise.
    """
    own = module.state_dict()
    shaped = {
        name: tensor.reshape(own[name].shape) if name in own and tensor.numel() == own[name].numel() == 1 else tensor
        for name, tensor in tensors.items()
    }
    missing, extra = sorted(own.keys() - shaped.keys()), sorted(shaped.keys() - own.keys())
    unlike = sorted(name for name in own.keys() & shaped.keys() if own[name].shape != shaped[name].shape)
    problems = [f"{what} {names[0]}" for what, names in (("lacks", missing), ("has also", extra)) if names]
    problems += [f"has {name} as {list(shaped[name].shape)}, not {list(own[name].shape)}" for name in unlike[:1]]
    if problems:
        counts = f"{len(missing)} missing, {len(extra)} too many, {len(unlike)} of another shape"
        return f"it {', '.join(problems)} ({counts})"
    module.load_state_dict(shaped)
    return None


def _plain(value: Any) -> Any:
    """Only what YAML has: dicts, lists, numbers, strings."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
