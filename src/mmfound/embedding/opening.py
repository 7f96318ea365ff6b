"""The source that a place names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from mmfound.data.source import Source
from mmfound.data.sources import Pictures
from mmfound.data.tools import open_source
from mmfound.errors import ConfigError, DataError, user_error

Place = str | Mapping[str, Any]
_ARROW = ("state.json", "dataset_dict.json")


def open_place(place: Place, *, image: str = "image", caption: str | None = None) -> Source:
    """A folder of pictures, whatever `mmfound data` opens, or what a class_path with its init_args builds.

    Args:
        place: where.
        image: a table's column of pictures.
        caption: a table's column of captions; None for none.

    Raises:
        DataError: when there is nothing that can be read.
        ConfigError: when the description does not fit.
    """
    if isinstance(place, Mapping):
        return _built(place)
    folder = Path(place)
    if not folder.is_dir():
        if "*" not in place and "{" not in place and "://" not in place and place not in ("shapes", "digits"):
            _need(folder)
        return open_source(place, image=image, caption=caption)
    holds_shards = any(folder.glob("*.tar")) or any((folder / name).is_file() for name in _ARROW)
    return open_source(place, image=image, caption=caption) if holds_shards else Pictures(place)


def _need(path: Path) -> None:
    if not path.exists():
        raise DataError(f"no source at {path}; name a folder of pictures, shards, or a table.")


def _built(description: Mapping[str, Any]) -> Source:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Source, "source")
    try:
        return parser.instantiate(parser.parse_object({"source": dict(description)})).source
    except (ArgumentError, TypeError, ValueError) as error:
        mistake = user_error(error)
        if mistake is not None:
            raise mistake from None
        first = str(error).strip().splitlines()[0]
        raise ConfigError(f"{description.get('class_path')!r} builds no source: {first}") from error
