"""Where a run lives, and the texts it keeps there."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmfound.errors import ConfigError, DiskFullError
from mmfound.runs.environment import disk_free

MIN_FREE_BYTES = 200 * 2**20
_SAVED = re.compile(r"config(\.r\d+)?\.yaml")


def default_folder(configs: Sequence[Path]) -> Path:
    """The run folder of a command's recipes: that of the first that is no machine overlay.

    `.../recipes/SYSTEM/STAGE.yaml` runs in `runs/SYSTEM/STAGE`. `runs/X/config.yaml`, which a run saved, runs in
    `runs/X` again. Any other recipe runs in `runs/NAME` with NAME its file name, or its folder's where the file is just
    `recipe.yaml`: `plugins/vsepp/recipe.yaml` runs in `runs/vsepp`.

    Raises:
        ConfigError: when there is no such recipe.
    """
    named = [path for path in configs if not _is_overlay(path)]
    if not named:
        raise ConfigError("no recipe names the run folder; add --config RECIPE.yaml, or set --run_dir")
    path = named[0]
    if is_saved(path):
        return path.parent
    path = path.absolute()
    parents = [parent.name for parent in path.parents]
    for name in ("recipes", "_recipes"):
        if name in parents:
            return Path("runs") / path.relative_to(path.parents[parents.index(name)]).with_suffix("")
    return Path("runs") / (path.parent.name if path.stem == "recipe" else path.stem)


def is_saved(path: Path) -> bool:
    """Whether the file is the configuration that a run saved in its folder."""
    return bool(_SAVED.fullmatch(path.name)) and (path.parent / "env.json").is_file()


def _is_overlay(path: Path) -> bool:
    return path.absolute().parent.name == "machines"


def check_space(folder: Path, needed: int = MIN_FREE_BYTES, free: Callable[[Path], int] | None = None) -> None:
    """Refuse to start on a full disk.

    Raises:
        DiskFullError: when less than `needed` bytes are free where the run folder is or would be.
    """
    left = (free or disk_free)(folder)
    if left < needed:
        raise DiskFullError(
            f"no room for the run folder {folder}: {left / 2**20:.0f} MB free, "
            f"at least {needed / 2**20:.0f} MB needed; free some, or set --run_dir to another disk"
        )


def newest_text(folder: Path, name: str) -> Path | None:
    """The last written of `name`, `name` with .r1, .r2, ..., or None."""
    stem, dot, suffix = name.partition(".")
    last = None
    for number in range(len(list(folder.glob(f"{stem}*.{suffix}"))) + 1):
        path = folder / (name if number == 0 else f"{stem}.r{number}{dot}{suffix}")
        last = path if path.is_file() else last
    return last


def keep_text(folder: Path, name: str, text: str) -> Path:
    """Write `text` as `config.yaml`, or where it differs from the last as `config.r1.yaml`, `config.r2.yaml`, ..."""
    last = newest_text(folder, name)
    if last is not None and last.read_text(encoding="utf-8") == text:
        return last
    stem, dot, suffix = name.partition(".")
    number = 0 if last is None else int((re.search(r"\.r(\d+)\.", last.name) or [0, 0])[1]) + 1
    path = folder / (name if number == 0 else f"{stem}.r{number}{dot}{suffix}")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def changes(before: Any, after: Any, key: str = "") -> list[str]:
    """Differences of two configurations, one a line: `model.init_args.width: 3 -> 4`."""
    if isinstance(before, dict) and isinstance(after, dict):
        names = dict.fromkeys([*before, *after])
        parts = [changes(before.get(name), after.get(name), f"{key}.{name}" if key else name) for name in names]
        return [line for part in parts for line in part]
    return [] if before == after else [f"{key}: {before} -> {after}"]
