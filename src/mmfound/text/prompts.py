"""Prompt templates and class names for zero-shot classification (arXiv:2103.00020, section 3.1.4)."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError
from mmfound.text.installed import open_clip_table

DEFAULT_TEMPLATES = ("a photo of a {}.",)
OPEN_CLIP_TEMPLATES = {"imagenet": "OPENAI_IMAGENET_TEMPLATES", "imagenet_simple": "SIMPLE_IMAGENET_TEMPLATES"}


class Prompts:
    """Sentences about classes.

    Args:
        templates: sentences with `{}` (or `{c}`) where the class name goes; or a file (JSON list, JSON by data set,
            text with one a line); or `imagenet` (80 templates) or `imagenet_simple` (7), read from the installed
            open_clip.
        dataset: the key in a JSON file that holds several data sets, `/` between nested keys.

    Raises:
        ConfigError: when a template has no place for the name, or the file cannot be used.
    """

    def __init__(self, templates: Sequence[str] | Path | str = DEFAULT_TEMPLATES, dataset: str | None = None) -> None:
        self.templates = load_templates(templates, dataset)

    def apply(self, classes: Sequence[str]) -> list[list[str]]:
        """Every template with every class name: one list per class, in the order of the templates."""
        return [[template.replace("{}", name) for template in self.templates] for name in classes]


def load_templates(templates: Sequence[str] | Path | str = DEFAULT_TEMPLATES, dataset: str | None = None) -> list[str]:
    """Templates from any of what `Prompts` takes, with `{}` for the class name.

    Raises:
        ConfigError: naming the template that has no place for the name.
    """
    if isinstance(templates, str) and "{" in templates:
        templates = [templates]
    found = _load(templates, dataset, "templates", OPEN_CLIP_TEMPLATES)
    sentences = [_sentence(template) for template in found]
    for sentence in sentences:
        if "{}" not in sentence:
            raise ConfigError(f"template {sentence!r} has no {{}}: write it where the class name goes")
    return sentences


def load_class_names(names: Sequence[str] | Path | str, dataset: str | None = None) -> list[str]:
    """Class names in the order of the labels.

    Args:
        names: the names; or a file (JSON list, JSON by data set, text with one a line); or `imagenet`, read from the
            installed open_clip.
        dataset: as in `Prompts`.

    Raises:
        ConfigError: when the file cannot be used.
    """
    return [str(name) for name in _load(names, dataset, "classes", {"imagenet": "IMAGENET_CLASSNAMES"})]


def _sentence(template: Any) -> str:
    return str(template("{}") if callable(template) else template).replace("{c}", "{}")


def _load(what: Sequence[str] | Path | str, dataset: str | None, key: str, tables: dict[str, str]) -> list[Any]:
    if not isinstance(what, str | Path):
        found: Any = list(what)
    elif Path(what).is_file():
        found = _select(_read(Path(what)), dataset, key, Path(what))
    elif str(what) in tables:
        found = list(open_clip_table(tables[str(what)], f"give the {key} as a list or a file"))
    else:
        raise ConfigError(f"{key}: {str(what)!r} is no file and no known name; known names are {sorted(tables)}")
    if not found:
        raise ConfigError(f"{key}: {str(what)!r} holds none; give at least one")
    return found


def _read(path: Path) -> Any:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path} is not JSON ({error})") from error


def _select(content: Any, dataset: str | None, key: str, path: Path) -> list[Any]:
    """The list inside nested dicts, by `dataset` and then by `key`; a single string counts as a list of one."""
    for name in dataset.split("/") if dataset else []:
        if not isinstance(content, dict) or name not in content:
            known = sorted(content) if isinstance(content, dict) else "no data sets"
            raise ConfigError(f"{path} has no data set {name!r} (dataset={dataset!r}); it has {known}")
        content = content[name]
    if isinstance(content, dict) and key in content:
        content = content[key]
    if isinstance(content, dict):
        raise ConfigError(f"{path} holds several data sets; name one with `dataset`: {sorted(content)}")
    return [content] if isinstance(content, str) else list(content)
