"""Exported modules: how one stage hands its weights to the next.

An export is a folder that describes itself: `module.yaml` (class_path, init_args, facts about pictures),
`module.safetensors`, and the tokenizer's own files. Nothing in it is unpickled.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MethodType
from typing import Any, Literal, Protocol

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mmfound.building import SAID, build, expand, part_of
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


def pretrained(
    folder: Path | str,
    part: str | None = None,
    frozen: bool = True,
    trust: bool = False,
    *,
    activation: Literal["quick_gelu", "gelu", "gelu_tanh"] | None = None,
    image_heads: int | None = None,
    text_heads: int | None = None,
    image_size: int | None = None,
    context: int | None = None,
    override: bool = False,
) -> nn.Module:
    """Rebuild an exported module, or one part of it, on the CPU; or what another library has written.

    Args:
        folder: an export; or weights of OpenAI's, open_clip's or transformers' CLIP or SigLIP, or of GLIDE, a file or a
            folder.
        part: dotted name of a submodule, such as `image_tower`; only that is built and read.
        frozen: without gradients, and in eval mode whatever the trainer calls.
        trust: allow classes from outside mmfound, torch.nn, timm and installed plug-ins, which can run any code.
        activation: of both towers, where the weights come without a configuration that says it.
        image_heads: attention heads of the image tower, likewise.
        text_heads: of the text tower, likewise.
        image_size: side in pixels of the pictures to take; the image tower's positions are resized to it.
        context: most tokens of a text; the text tower's positions are cut or stretched to it.
        override: let activation and heads win over the weights' own configuration.

    The last six are for other libraries' weights alone.

    Raises:
        ConfigError: when there is no such export or part, its classes are refused or do not fit, or weights do not
            say something that has to be said.
        DataError: when its weights are damaged.
    """
    folder = Path(folder)
    said = {
        "activation": activation,
        "image_heads": image_heads,
        "text_heads": text_heads,
        "image_size": image_size,
        "context": context,
        "override": override,
    }
    if _is_foreign(folder):
        module = _foreign(folder, part, said)
    else:
        _refuse(said, folder)
        module = _exported_module(folder, part, trust)
    if frozen:
        module.eval().requires_grad_(False)
        module.train = MethodType(_stay, module)  # pyright: ignore[reportAttributeAccessIssue]
    return module


def describe(folder: Path | str, **said: Any) -> dict[str, Any]:
    """What `module.yaml` of an export says: class_path, init_args and, where known, image.

    Of other libraries' weights it is inferred; `said` are the last arguments of `pretrained` then.

    Raises:
        ConfigError: when there is none, or it is not readable.
    """
    if _is_foreign(Path(folder)):
        from mmfound.interop import foreign
        from mmfound.interop.facts import Said

        return foreign.describe(Path(folder), Said(**said))
    path = Path(folder) / CONFIG
    if not path.is_file() and Path(folder).suffix and not Path(folder).exists():
        raise ConfigError(f"there are no weights at {folder}; name a file or folder of weights that is there")
    if not path.is_file() and (Path(folder) / "export" / CONFIG).is_file():
        raise ConfigError(f"{folder} is a run folder; its weights are in {Path(folder) / 'export'}, name that")
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


def _is_foreign(path: Path) -> bool:
    from mmfound.interop.files import is_foreign  # only where weights are loaded: it imports timm

    return is_foreign(path)


def _foreign(path: Path, part: str | None, said: Mapping[str, Any]) -> nn.Module:
    from mmfound.interop import foreign
    from mmfound.interop.facts import Said

    config, state = foreign.read(path, Said(**said))
    try:
        whole = build(config, str(path))
    except (ValueError, AssertionError, RuntimeError) as error:  # whatever timm makes of impossible sizes
        raise ConfigError(f"{path} was taken for {_outline(config)}, which cannot be built: {error}.") from error
    problem = load(whole, foreign.fit_positions(state, whole, Said(**said)))
    if problem is not None:
        raise ConfigError(f"{path} was taken for {_outline(config)} and does not fit it: {problem}.")
    part_of(config, part, str(path))
    return whole if part is None else whole.get_submodule(part)


def _outline(config: Mapping[str, Any]) -> str:
    """The classes and sizes of the networks, for errors."""
    towers = (part for name, part in config["init_args"].items() if name in ("image_tower", "text_tower", "network"))
    return " with ".join(
        f"{tower['class_path'].rpartition('.')[2]}({', '.join(f'{k}={v}' for k, v in tower['init_args'].items())})"
        for tower in towers
    )


def _refuse(said: Mapping[str, Any], folder: Path) -> None:
    given = [name for name in SAID if said.get(name)]
    if given:
        raise ConfigError(f"{given[0]} is for weights of other libraries; {folder} is an export, which says it itself.")


def _exported_module(folder: Path, part: str | None, trust: bool) -> nn.Module:
    config = describe(folder)
    user = str(folder / CONFIG)
    module = build(part_of(config, part, user), user, trust=trust)
    if not isinstance(module, nn.Module):
        raise ConfigError(f"{user} describes a {type(module).__name__}, which is no module; export one.")
    _load(module, _read(folder, f"{part}." if part else ""), user)
    return module


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
