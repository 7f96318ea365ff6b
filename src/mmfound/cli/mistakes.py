"""One line for what is wrong with a recipe or an option, from jsonargparse's nested errors.

jsonargparse wraps an error once for each level of the recipe, and the whole configuration goes into the text. The chain
of causes holds what a reader needs: the key of each level, the class of each level, and the first cause.
"""

import argparse
import importlib
import pkgutil
import re
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mmfound.cli.plugins import short_names
from mmfound.cli.suggest import did_you_mean, nearest
from mmfound.errors import ConfigError, user_error

PACKAGES = [f"mmfound.{name}" for name in ("tasks", "data", "models", "text", "evaluation", "callbacks", "optim")]

_CLASS_PATH = re.compile(
    r"^Problem with given class_path '([^']*)'|^Type typing.Callable.* Got value: .*?class_path'?[=:] ?'([^']*)'"
)


@dataclass
class Place:
    """Where in the recipe the first cause is."""

    cause: BaseException
    keys: list[str] = field(default_factory=list)
    class_path: str = ""  # of the innermost class named on the way
    options: set[str] = field(default_factory=set)  # of the innermost class

    @property
    def key(self) -> str:
        """Dotted key, as it would be written on the command line."""
        return ".".join(self.keys)


def explain(message: str, error: BaseException | None, options: set[str]) -> str:
    """The mistake in one line.

    Args:
        message: what jsonargparse would print.
        error: what it comes from, with its causes.
        options: the dotted options of the outermost parser.
    """
    place = _locate(error or ValueError(message), options)
    text = str(place.cause) if error else message
    for rule in (_unknown_option, _missing, _class_path):
        line = rule(place, text)
        if line:
            return f"{place.key}: {line}" if place.key else line
    line = " ".join(_without_values(text).split())
    return f"{place.key}: {line}" if place.key and place.key not in line else line


def _links(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        yield link
        several = str(link).startswith("Does not validate against any") and len(_subtypes(str(link))) > 1
        link = None if several else link.__cause__ or link.__context__


def refused(error: ValueError) -> BaseException:
    """What building the recipe's objects stumbled over: a value that a constructor refuses is the user's to mend."""
    mistake = user_error(error)  # which may come from another error
    if mistake is not None:
        return mistake
    *_, cause = _links(error)
    is_theirs = isinstance(cause, ValueError) or _is_missing_data(cause)
    return ConfigError(f"{cause}{_line(cause)}") if is_theirs else cause


def _is_missing_data(error: BaseException) -> bool:
    """torchvision's data sets raise plain RuntimeErrors where their files are not."""
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, RuntimeError) and bool(frames) and "datasets" in Path(frames[-1].filename).parts


def _locate(error: BaseException, options: set[str]) -> Place:
    place = Place(error, options=options)
    for link in _links(error):
        place.cause = link
        place.options = _settable(getattr(link, "options", place.options))
        key = re.match(r'Parser key "([^"]*)"', str(link))
        if key and isinstance(link, TypeError):
            place.keys.append(key[1])
        class_path = _CLASS_PATH.search(str(link).split("\n")[0])
        place.class_path = class_path[1] or class_path[2] if class_path else place.class_path
    return place


def _settable(options: Iterable[str]) -> set[str]:
    return {option for option in options if option.rpartition(".")[2] not in ("help", "print_config")}


def _subtypes(text: str) -> list[str]:
    listed = re.search(r"Subtypes: \[(.*)\]", text)
    return [name for name in listed[1].split(", ") if "NoneType" not in name] if listed else []


def _without_values(text: str) -> str:
    """The text without the configuration that jsonargparse appends."""
    text = re.sub(r"\nErrors:.*?(?=\nGiven value: )", "", text, flags=re.DOTALL)
    text = re.sub(r'^Parser key "[^"]*":?\s*', "", text)
    return text if len(text) < 300 else text[:300] + " ..."


def _unknown_option(place: Place, text: str) -> str | None:
    found = re.search(r"ption '([^']+)' (?:is not accepted)?$", text) or re.search(r"ption '([^']+)'", text)
    found = found if "accept" in text else re.search(r"unrecognized arguments: (?:--?)?([^=\s]+)", text)
    if not found:
        return None
    owner = place.class_path or "the recipe"
    hint = _nearest_option(found[1], place.options)
    if hint in ("class_path", "init_args"):
        return f"no key {found[1].split('.')[0]!r} goes with a class; did you mean {hint!r}?"
    if hint:
        wrong = found[1] if "." in hint or "." not in found[1] else found[1].split(".")[0]
        return f"{owner} has no option {wrong!r}; did you mean {hint!r}?"
    known = sorted({option.split(".")[0] for option in place.options})
    return f"{owner} has no option {found[1]!r}; it has {', '.join(known) or 'none'}"


def _nearest_option(key: str, options: Iterable[str]) -> str | None:
    """A dotted option like the whole key, or a first component like the key's."""
    options = list(options)
    heads = {option.split(".")[0] for option in options} | {"class_path", "init_args"}
    return (nearest(key, options) if "." in key else None) or nearest(key.split(".")[0], heads)


def _missing(place: Place, text: str) -> str | None:
    found = re.search(r"the following arguments are required: (.*)", text)
    if not found:
        return None
    names = ", ".join(name.partition(".")[2] or name for name in found[1].split(", "))
    if place.class_path:
        return f"{place.class_path} needs {found[1]}; add it under init_args"
    return f"the recipe lacks {names}; name one with --config (`mmfound recipes` lists them)"


def _class_path(place: Place, text: str) -> str | None:
    bare = re.search(r"Expected a dot import path string: (\w+)", text)
    if bare:
        return _bare_name(bare[1])
    lost = re.match(r"module '([\w.]+)' has no attribute '(\w+)'", text)
    path = place.class_path
    if lost and (not path or path.startswith(lost[1])):
        path = path or f"{lost[1]}.{lost[2]}"
        return f"no class {path!r}{_similar(lost[1], lost[2])}"
    if isinstance(place.cause, ModuleNotFoundError) and _is_part(place.cause.name or "", path):
        parent, _, name = (place.cause.name or "").rpartition(".")
        whole = path or place.cause.name
        return f"no class {whole!r}: there is no module {place.cause.name!r}{_similar(parent, name)}"
    if isinstance(place.cause, (TypeError, ValueError, KeyError, argparse.ArgumentError)):
        return None
    what = f"{path!r}" if isinstance(place.cause, (ImportError, AttributeError)) and path else "its class"
    return f"cannot import {what}: {type(place.cause).__name__}: {' '.join(text.split())}{_line(place.cause)}"


def _line(error: BaseException) -> str:
    """File and line that raised, which a SyntaxError names itself."""
    frames = traceback.extract_tb(error.__traceback__)
    return (
        f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames and not isinstance(error, SyntaxError) else ""
    )


def _is_part(module: str, path: str) -> bool:
    return not path or path == module or path.startswith(module + ".")


def _bare_name(name: str) -> str:
    """A class path without a dot is the short name of a plug-in; or one of ours was meant."""
    ours = {}
    for package in PACKAGES:
        ours.update({public: f"{package}.{public}" for public in _public(package)})
    near = nearest(name, [*ours, *short_names()])
    hint = f"; did you mean {ours.get(near, near)!r}?" if near else "; write its whole path, package.module.Class"
    return f"no class or plug-in {name!r}{hint}"


def _public(package: str) -> list[str]:
    try:
        return list(getattr(importlib.import_module(package), "__all__", []))
    except ImportError:
        return []


def _similar(module: str, name: str) -> str:
    """The nearest name in a module or package, with the path in front."""
    if not module:
        return did_you_mean(name, ["mmfound", "torch", "timm", "plugins"])
    parent = importlib.import_module(module)
    inside = [public for public in dir(parent) if not public.startswith("_")]
    inside += [found.name for found in pkgutil.iter_modules(getattr(parent, "__path__", []))]
    near = nearest(name, inside)
    return f"; did you mean {f'{module}.{near}'!r}?" if near else ""
