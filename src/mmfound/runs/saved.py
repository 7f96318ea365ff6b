"""The checkpoints of a run folder: which there are, which are good, which stay."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmfound.errors import CheckpointError, ConfigError
from mmfound.runs import durable

FOLDER = "checkpoints"
_NAME = re.compile(r"step=(\d+)\.ckpt")

Kind = Literal["interval", "best", "stopped", "last"]


@dataclass(frozen=True)
class Saving:
    """When checkpoints are written and which of them stay; the last step is always saved.

    Args:
        every_n_steps: optimiser steps between two; those between two validations by default, else 500.
        every_n_minutes: also when so much time has passed since the last.
        keep: how many of the newest stay, at least 1.
        keep_every_n_steps: those of multiples of this many steps stay for good.
        monitor: metric of validations, such as `val/loss`, whose best checkpoint stays too.
        mode: whether the least or the largest is the best.
    """

    every_n_steps: int | None = None
    every_n_minutes: float | None = None
    keep: int = 2
    keep_every_n_steps: int | None = None
    monitor: str | None = None
    mode: Literal["min", "max"] = "min"

    def __post_init__(self) -> None:
        """Refuse what would save nothing, or keep nothing."""
        for name in ("every_n_steps", "keep", "keep_every_n_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"checkpoints.{name} is {value}; it must be at least 1 (a large `keep` keeps all)")

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value of the metric is the best so far."""
        if value != value:  # NaN
            return False
        return than is None or (value < than if self.mode == "min" else value > than)


def step_of(path: Path) -> int | None:
    """Optimiser steps that a checkpoint's name tells, None for a name that is not ours."""
    found = _NAME.fullmatch(path.name)
    return int(found[1]) if found else None


def by_step(run: Path) -> dict[int, Path]:
    """Checkpoints of a run folder by their step, in order."""
    found = [(step_of(path), path) for path in (run / FOLDER).glob("step=*.ckpt")]
    return dict(sorted((step, path) for step, path in found if step is not None))


def newest(run: Path) -> Path | None:
    """The checkpoint of a run folder with the most steps."""
    return next(reversed(by_step(run).values()), None)


def newest_good(
    run: Path, share: durable.Share = durable.WHOLE, at_most: int | None = None
) -> tuple[Path | None, list[str]]:
    """The checkpoint with the most steps that is what was written, and what is wrong with those after it.

    Args:
        run: the run folder.
        share: this process of how many that look, see `durable.damage`.
        at_most: steps.

    Raises:
        CheckpointError: when there are checkpoints and none is good; each with its reason.
    """
    damaged: list[str] = []
    for step, path in reversed(by_step(run).items()):
        if at_most is not None and step > at_most:
            continue
        reason = durable.damage(path, share)
        if reason is None:
            return path, damaged
        damaged.append(f"{path.name}: {reason}")
    if damaged:
        raise CheckpointError(
            f"no checkpoint in {run / FOLDER} can be trusted; put good ones back, or name another --run_dir\n  "
            + "\n  ".join(damaged)
        )
    return None, damaged


def tidy(published: Path, saving: Saving) -> None:
    """Point `last.ckpt` and `best.ckpt` at the newest and the best, and remove what need not stay.

    Args:
        published: the newest. Those with more steps are damaged, or the run would have gone on from them.
        saving: what stays.
    """
    folder, newest_step = published.parent, step_of(published) or 0
    known = by_step(folder.parent).items()
    good = [path for step, path in known if step <= newest_step and durable.manifest(path)]
    _link(published, folder / "last.ckpt")
    stays = {published} | set(good[-saving.keep :]) | set(_milestones(good, saving.keep_every_n_steps))
    best = _best(good, saving)
    if best is not None:
        stays.add(best)
        _link(best, folder / "best.ckpt")
    for path in good:
        if path not in stays:
            durable.remove(path)


def _milestones(paths: list[Path], every: int | None) -> Iterator[Path]:
    return (path for path in paths if every and not (step_of(path) or 0) % every)


def _best(paths: list[Path], saving: Saving) -> Path | None:
    value, best = None, None
    for path in paths if saving.monitor else ():
        facts = durable.manifest(path)
        if facts.get("kind") == "best" and saving.better(facts["monitor"], value):
            value, best = facts["monitor"], path
    return best


def _link(path: Path, name: Path) -> None:
    temporary = name.with_name(f".{name.name}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(path.name)
    os.replace(temporary, name)
