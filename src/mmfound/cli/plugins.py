"""Plug-ins: classes outside mmfound, in installed packages or in loose files of the folder `plugins/`.

An installed package names its classes by entry points in the group `mmfound.plugins`; their names then stand for the
class path in recipes and options. Until a recipe names one, nothing of it is imported, so that a broken plug-in breaks
only its own recipes.
"""

import importlib
import sys
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from mmfound.cli.suggest import did_you_mean
from mmfound.errors import ConfigError

GROUP = "mmfound.plugins"


@dataclass(frozen=True)
class Plugin:
    """A class that recipes can name."""

    name: str  # short name, or class path of the file's module for a loose one
    class_path: str
    origin: str  # distribution and version, or file


def installed() -> list[Plugin]:
    """The plug-ins of installed packages, by name; duplicates included."""
    found = {_plugin(point) for point in entry_points(group=GROUP)}
    return sorted(found, key=lambda plugin: (plugin.name, plugin.origin))


def _plugin(point: EntryPoint) -> Plugin:
    dist = point.dist
    origin = f"{dist.name} {dist.version}" if dist else "unknown distribution"
    return Plugin(point.name, point.value.split("[")[0].strip().replace(":", "."), origin)


def loose() -> list[Plugin]:
    """The plug-ins in files of the folder `plugins/` here: `plugins/NAME/task.py` and `plugins/NAME.py`."""
    files = sorted([*Path("plugins").glob("*/task.py"), *Path("plugins").glob("[!_]*.py")])
    paths = [".".join(file.with_suffix("").parts) for file in files]
    return [Plugin(path, path, str(file)) for path, file in zip(paths, files, strict=True)]


def short_names() -> dict[str, str]:
    """Short name to class path; names that two distributions claim are not in it (see `expand`)."""
    claims = _claims()
    return {name: plugins[0].class_path for name, plugins in claims.items() if len(plugins) == 1}


def _claims() -> dict[str, list[Plugin]]:
    claims: dict[str, list[Plugin]] = {}
    for plugin in installed():
        claims.setdefault(plugin.name, []).append(plugin)
    return claims


def expand(name: str) -> str:
    """The class path of a short name; any other text unchanged.

    Raises:
        ConfigError: when several installed plug-ins have that name.
    """
    plugins = _claims().get(name, [])
    if len(plugins) > 1:
        owners = " and ".join(f"{plugin.class_path} ({plugin.origin})" for plugin in plugins)
        raise ConfigError(f"plug-in name {name!r} is claimed by {owners}; write the class path instead")
    return plugins[0].class_path if plugins else name


def expand_tree(tree: Any) -> Any:
    """A copy of a recipe's tree with short names of plug-ins replaced by their class paths."""
    if isinstance(tree, list):
        return [expand_tree(value) for value in tree]
    if not isinstance(tree, dict):
        return tree
    expanded = {key: expand_tree(value) for key, value in tree.items()}
    class_path = expanded.get("class_path")
    if isinstance(class_path, str) and "." not in class_path:
        expanded["class_path"] = expand(class_path)
    return expanded


def why_broken(plugin: Plugin) -> str | None:
    """Why the plug-in does not import, or None where it does."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _load(plugin)
    except Exception as error:  # a plug-in may fail in any way
        return f"{type(error).__name__}: {error}".splitlines()[0]
    finally:
        sys.path.remove(here)
    return None


def _load(plugin: Plugin) -> None:
    if plugin.name == plugin.class_path:
        importlib.import_module(plugin.class_path)
        return
    module, _, name = plugin.class_path.rpartition(".")
    getattr(importlib.import_module(module), name)


def report() -> list[str]:
    """One line for each plug-in: name, class path, origin, and what is wrong with it."""
    claims = _claims()
    lines = []
    for plugin in [*installed(), *loose()]:
        reason = why_broken(plugin)
        if len(claims.get(plugin.name, [])) > 1:
            reason = "its name is claimed twice: write the class path"
        state = f"broken: {reason}" if reason else "ok"
        what = plugin.name if plugin.name == plugin.class_path else f"{plugin.name} = {plugin.class_path}"
        lines.append(f"{what} ({plugin.origin}): {state}")
    return lines


def main(argv: Iterable[str]) -> int:
    """`mmfound plugins [list]`."""
    action = next(iter(argv), "list")
    if action in ("-h", "--help"):
        print("usage: mmfound plugins [list]")
        return 0
    if action != "list":
        raise ConfigError(f"no command 'plugins {action}'{did_you_mean(action, ['list'])}; there is only list")
    lines = report()
    print("\n".join(lines) if lines else f"no plug-ins: none installed (entry points in {GROUP}), none in ./plugins")
    return 0
