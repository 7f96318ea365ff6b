"""Which classes of the reference a class of a shift stands for. Classes go by the names that sources give them."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError


class ClassMap(ABC):
    """From a shift's classes to the reference's."""

    @abstractmethod
    def numbers(self, name: str, reference: Mapping[str, int]) -> Sequence[int] | None:
        """The classes of the reference that a class of the shift stands for.

        Args:
            name: of the shift's class.
            reference: numbers of the reference's classes by name.

        Returns:
            One number or several; none where the map leaves the class out; None where it does not know the class.
        """


class SameNames(ClassMap):
    """The same names, as the folders of ImageNet-R, -A and -Sketch are ImageNet's own; the shift may have fewer."""

    def numbers(self, name: str, reference: Mapping[str, int]) -> Sequence[int] | None:
        """The class of that name."""
        return [reference[name]] if name in reference else None


class Numbered(ClassMap):
    """Folders called by number, as those of ImageNet-V2: 0 to 999, in the order of the reference's classes."""

    def numbers(self, name: str, reference: Mapping[str, int]) -> Sequence[int] | None:
        """The class of that number."""
        return [int(name)] if name.isdecimal() and int(name) < len(reference) else None


class NamedClasses(ClassMap):
    """A table written by hand.

    Args:
        classes: the reference's class of each class of the shift, by name; a list where it stands for several, null
            where it is left out; or a JSON file of that.

    Raises:
        ConfigError: when the file cannot be read, or a class stands for anything but names.
    """

    def __init__(self, classes: dict[str, str | list[str] | None] | str) -> None:
        found = _json(Path(classes)) if isinstance(classes, str) else classes
        self.classes = {name: _as_list(name, given) for name, given in found.items()}

    def numbers(self, name: str, reference: Mapping[str, int]) -> Sequence[int] | None:
        """The classes that the table names.

        Raises:
            ConfigError: when the reference has no such class.
        """
        if name not in self.classes:
            return None
        unknown = [target for target in self.classes[name] if target not in reference]
        if unknown:
            raise ConfigError(
                f"class map: {name!r} stands for {unknown[0]!r}, which is none of the reference's {len(reference)} "
                f"classes, such as {next(iter(reference), None)!r}. Name them as the reference source does."
            )
        return [reference[target] for target in self.classes[name]]


class ObjectNetClasses(ClassMap):
    """ObjectNet's folders in the 1,000 classes of ImageNet: 113 stand for one or several, the other 200 are left out.

    Args:
        mappings: ObjectNet's own folder `mappings`: folder_to_objectnet_label.json, objectnet_to_imagenet_1k.json,
            imagenet_to_label_2012_v2 and pytorch_to_imagenet_2012_id.json.

    Raises:
        ConfigError: when one of them is missing, or names a class that another does not have.

    Source: Barbu et al. 2019, ObjectNet; read as by WiSE-FT (Wortsman et al. 2021, arXiv:2109.01903).
    """

    def __init__(self, mappings: str) -> None:
        folder = Path(mappings)
        lines = _text(folder / "imagenet_to_label_2012_v2").splitlines()
        id_of = {name.strip(): number for number, name in enumerate(lines) if name.strip()}  # in ILSVRC's order
        order = _json(folder / "pytorch_to_imagenet_2012_id.json")
        number_of = {int(challenge): int(number) for number, challenge in order.items()}  # in that of the WordNet ids
        imagenet = _json(folder / "objectnet_to_imagenet_1k.json")
        self.classes: dict[str, list[int]] = {}
        for name, label in _json(folder / "folder_to_objectnet_label.json").items():
            spelled = [part.strip() for part in imagenet.get(label, "").split("; ") if part.strip()]
            unknown = [part for part in spelled if id_of.get(part) not in number_of]
            if unknown:
                raise ConfigError(
                    f"{folder}/objectnet_to_imagenet_1k.json: {label!r} stands for {unknown[0]!r}, which the files "
                    "imagenet_to_label_2012_v2 and pytorch_to_imagenet_2012_id.json beside it do not number."
                )
            self.classes[name] = [number_of[id_of[part]] for part in spelled]

    def numbers(self, name: str, reference: Mapping[str, int]) -> Sequence[int] | None:
        """The classes of ImageNet in the order of their WordNet ids, which is the reference's.

        Raises:
            ConfigError: when the reference is smaller than ImageNet.
        """
        found = self.classes.get(name)
        if found and max(found) >= len(reference):
            raise ConfigError(
                f"class map: ObjectNet's {name!r} is class {max(found)} of ImageNet, but the reference has "
                f"{len(reference)} classes. Take ImageNet's validation folder as the reference."
            )
        return found


def _as_list(name: str, given: Any) -> list[str]:
    names = [] if given is None else given if isinstance(given, list) else [given]
    if not all(isinstance(target, str) for target in names):
        raise ConfigError(f"class map: {name!r} stands for {given!r}; give a name, a list of names, or null.")
    return names


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_text(path))
    except ValueError as error:
        raise ConfigError(f"class map {path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"class map {path} holds a {type(found).__name__}, not an object from class to class.")
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"class map {path} cannot be read: {error}") from error
