"""How a command wants pictures to be drawn, over what the exports say."""

import copy
import difflib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mmfound.diffusion import samplers
from mmfound.diffusion.conditioning import Conditioner
from mmfound.diffusion.guidance import ClassifierFree, Guidance
from mmfound.diffusion.pipeline import Link
from mmfound.diffusion.sampling import Sampler, Sampling
from mmfound.errors import ConfigError

if TYPE_CHECKING:
    from mmfound.generating.clip import Clip  # brings Lightning along, which takes seconds


@dataclass(frozen=True)
class Wishes:
    """What a command says; of each as many values as stages that it is said of, from the first on.

    Args:
        sampler: names.
        steps: numbers of steps.
        guidance: scales of classifier-free guidance; 1 is none.
        guidance_until: largest log-SNR at which to guide; infinity is everywhere.
        clip: that guides the first stage, with `clip_scale`.
        clip_scale: one scale of its gradient, or none.
    """

    sampler: Sequence[str] = ()
    steps: Sequence[int] = ()
    guidance: Sequence[float] = ()
    guidance_until: Sequence[float] = ()
    clip: "Clip | None" = None
    clip_scale: Sequence[float] = ()


def settings_of(links: Sequence[Link], wishes: Wishes) -> list[Sampling]:
    """One for each stage: its own, but for what is wished.

    Raises:
        ConfigError: when more values are given than there are stages, or one that a stage cannot be drawn with.
    """
    wished = {name: getattr(wishes, name) for name in ("sampler", "steps", "guidance", "guidance_until")}
    for name, given in wished.items():
        if len(given) > len(links):
            raise ConfigError(f"--{name} has {len(given)} values for {len(links)} stages; give one for each, or fewer.")
    found = [
        _settings(link, **{name: given[number] for name, given in wished.items() if number < len(given)})
        for number, link in enumerate(links)
    ]
    if wishes.clip is not None:
        found[0].steering = wishes.clip.guidance(wishes.clip_scale[0])
    return found


def sampler_named(name: str) -> Sampler:
    """With its usual settings.

    Raises:
        ConfigError: when there is none, naming the nearest.
    """
    known: dict[str, Callable[[], Sampler]] = {
        kind.lower(): made  # pyright: ignore[reportAssignmentType]
        for kind, made in inspect.getmembers(samplers, inspect.isclass)
        if issubclass(made, Sampler) and made is not Sampler
    }
    if name.lower() not in known:
        near = difflib.get_close_matches(name.lower(), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
        raise ConfigError(f"--sampler: no sampler {name!r}; {hint}")
    return known[name.lower()]()


def told(thing: Any) -> Any:
    """An object of settings as JSON: its class and what it was made with."""
    if isinstance(thing, (list, tuple)):
        return [told(inner) for inner in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return str(thing)  # which JSON has no number for
    if thing is None or isinstance(thing, (bool, int, float, str)):
        return thing
    values = {name: told(value) for name, value in vars(thing).items() if not name.startswith("_")}
    return {"kind": type(thing).__name__, **values} if values else type(thing).__name__


def told_sampling(sampling: Sampling) -> Mapping[str, Any]:
    """All settings of a stage's sampling as JSON."""
    return {name: told(value) for name, value in vars(sampling).items()}


def _settings(
    link: Link,
    sampler: str | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    guidance_until: float | None = None,
) -> Sampling:
    own = link.stage.sampling
    made = copy.copy(own)
    if sampler is not None:
        made.sampler = sampler_named(sampler)
    if steps is not None:
        made.steps = steps
    if guidance is not None:
        made.guidance = _scaled(own.guidance, guidance)
    if guidance_until is not None:
        made.guidance = _until(link, made.guidance, guidance_until)
    _check(link, made)
    return made


def _scaled(own: Guidance | None, scale: float) -> ClassifierFree:
    """The stage's own with another scale, where it has one."""
    return replace(own, scale=scale) if isinstance(own, ClassifierFree) else ClassifierFree(scale)


def _until(link: Link, own: Guidance | None, log_snr: float) -> ClassifierFree:
    """The same up to a log-SNR."""
    if not isinstance(own, ClassifierFree) or not own.needs_null:
        raise ConfigError(
            f"--guidance_until {log_snr:g}: {link.name} is not guided; give --guidance G, not 1, as well."
        )
    lowest = own.interval[0] if own.interval is not None else -math.inf
    return replace(own, interval=None if (lowest, log_snr) == (-math.inf, math.inf) else (lowest, log_snr))


def _check(link: Link, sampling: Sampling) -> None:
    """Before anything is drawn, as a later stage's turn comes late."""
    link.stage.schedule.times(sampling.steps)
    parts = [part for part in link.stage.conditioners if isinstance(part, Conditioner)]
    if sampling.guidance is not None and sampling.guidance.needs_null and not any(part.drop > 0 for part in parts):
        names = ", ".join(f"{type(part).__name__} (drop {part.drop})" for part in parts) or "no conditioner"
        raise ConfigError(
            f"{link.name} cannot be guided: it has {names}, and nothing was dropped in its training. Draw with "
            "--guidance 1, or train it with drop above 0."
        )
