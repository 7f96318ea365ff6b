"""Objects from `class_path` and `init_args` that come with somebody's weights: only classes that may be trusted."""

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from torch import nn

from mmfound.errors import ConfigError

PLUGINS = "mmfound.plugins"
PRETRAINED = "mmfound.weights.pretrained"
SAID = ("activation", "image_heads", "text_heads", "image_size", "context", "override")  # of `pretrained`
_TRUSTED = ("mmfound", "timm", "torch.nn")
_DATA_CLASSES = ("mmfound.diffusion", "mmfound.models.unet_parts")  # the other objects that networks are made with
_FUNCTIONS = ("timm.create_model",)
# What makes timm download weights or unpickle a file.
_REFUSED_ARGUMENTS = ("cache_dir", "checkpoint_path", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay")

Config = Mapping[str, Any]


def build(config: Config, user: str, *, trust: bool = False) -> Any:
    """Construct what a description says, inner parts first.

    Args:
        config: class_path, and init_args that may hold further descriptions.
        user: the file it comes from, for errors.
        trust: whether any class may be constructed.

    Raises:
        ConfigError: when a class is refused or missing, or its arguments do not fit.
    """
    return _built(config, user, lambda path: _find(path, user, trust), trust)


def expand(config: Config, describe: Callable[..., Config]) -> dict[str, Any]:
    """The description with each `pretrained` in it replaced by that of the module it loads."""
    arguments = config.get("init_args") or {}
    if config.get("class_path") == PRETRAINED:
        folder = str(arguments["folder"])
        said = {name: arguments[name] for name in SAID if arguments.get(name)}
        inner = part_of(describe(folder, **said), arguments.get("part"), folder)
        return {"class_path": inner["class_path"], "init_args": inner.get("init_args") or {}}
    return {"class_path": config["class_path"], "init_args": _expanded(arguments, describe)}


def part_of(config: Config, part: str | None, user: str) -> Config:
    """The description of a submodule, by the dotted names of constructor arguments.

    Raises:
        ConfigError: naming the parts there are.
    """
    for name in part.split(".") if part else []:
        arguments = config.get("init_args") or {}
        if not _is_description(arguments.get(name)):
            parts = sorted(key for key, value in arguments.items() if _is_description(value))
            raise ConfigError(f"{user} has no part {part!r}; {config['class_path']} has {parts or 'none'}.")
        config = arguments[name]
    return config


def _is_description(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("class_path"), str)


def _expanded(value: Any, describe: Callable[..., Config]) -> Any:
    if _is_description(value):
        return expand(value, describe)
    if isinstance(value, Mapping):
        return {name: _expanded(inner, describe) for name, inner in value.items()}
    return [_expanded(inner, describe) for inner in value] if isinstance(value, (list, tuple)) else value


def _built(value: Any, user: str, find: Callable[[str], Any], trust: bool) -> Any:
    if isinstance(value, (list, tuple)):
        return [_built(inner, user, find, trust) for inner in value]
    if not isinstance(value, Mapping):
        return value
    refused = [name for name in value if name in _REFUSED_ARGUMENTS and not trust]
    if refused:
        raise ConfigError(f"{user} sets {refused[0]}: {value[refused[0]]}, which could load foreign code. Take it out.")
    if not _is_description(value):
        return {name: _built(inner, user, find, trust) for name, inner in value.items()}
    made = find(value["class_path"])
    arguments = _built(value.get("init_args") or {}, user, find, trust)
    try:
        return made(**arguments)
    except TypeError as error:
        raise ConfigError(
            f"{user} does not fit {value['class_path']} as installed: {error}. Export it anew."
        ) from error


def _find(path: str, user: str, trust: bool) -> Any:
    """What a class path names; imports nothing that is refused."""
    plugins = tuple({entry.module.partition(".")[0] for entry in entry_points(group=PLUGINS)})
    if not trust and not _within(path, _TRUSTED + plugins):
        raise ConfigError(
            f"{user} wants to construct {path}, which is not from {', '.join(_TRUSTED)} or an installed plug-in and "
            "could run any code. If you trust where it comes from, set trust: true on pretrained."
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"{user} names {path}, which is not installed here: {error}.") from error
    if not trust and path not in _FUNCTIONS and not _harmless(found, plugins):
        raise ConfigError(f"{user} wants to call {path}, which is no network. Export it anew, from a module.")
    return found


def _harmless(found: Any, plugins: tuple[str, ...]) -> bool:
    if not isinstance(found, type) or not _within(found.__module__, _TRUSTED + plugins):
        return False
    return issubclass(found, nn.Module) or _within(found.__module__, _DATA_CLASSES + plugins)


def _within(path: str, packages: tuple[str, ...]) -> bool:
    return any(path == package or path.startswith(package + ".") for package in packages)
