"""What a command draws: every picture with its name and all that it is drawn with."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mmfound.diffusion.given import Given
from mmfound.diffusion.sampling import Sampling
from mmfound.errors import ConfigError

MOST = 10_000  # pictures of one prompt: the number of a sample is prompt * MOST + sample


@dataclass(frozen=True)
class Subject:
    """What pictures show.

    Args:
        prompt: None where nothing reads text.
        label: None where nothing reads classes.
    """

    prompt: str | None = None
    label: int | None = None

    @property
    def text(self) -> str:
        """For the sheet."""
        return self.prompt if self.prompt is not None else ("" if self.label is None else f"class {self.label}")


@dataclass(frozen=True)
class Variant:
    """One setting of everything but the subject; a column of the sheet.

    Args:
        seed: of the noise.
        samplings: one for each stage.
        facts: those of the settings, as JSON.
        given: a picture to begin with.
        head: such as `guidance 2`; empty where there is one variant.
    """

    seed: int
    samplings: list[Sampling]
    facts: Mapping[str, Any]
    given: Given | None = None
    head: str = ""


@dataclass(frozen=True)
class Picture:
    """One file to be.

    Args:
        name: of the file.
        subject: what it shows.
        index: of its noise.
        variant: what it is drawn with.
    """

    name: str
    subject: Subject
    index: int
    variant: Variant = field(repr=False)

    @property
    def facts(self) -> dict[str, Any]:
        """All that it depends on."""
        what = {"prompt": self.subject.prompt, "label": self.subject.label}
        said = {name: value for name, value in what.items() if value is not None}
        return {**said, "seed": self.variant.seed, "index": self.index, **self.variant.facts}


def pictures_of(subjects: Sequence[Subject], n: int, variants: Sequence[Variant]) -> list[Picture]:
    """All pictures, those of a variant together.

    A picture's noise depends on the number of its subject and its own number among that subject's, so that more of
    either leave the others as they were.

    Raises:
        ConfigError: when more are asked for than have numbers.
    """
    if n > MOST:
        raise ConfigError(f"--n is {n}; at most {MOST} pictures of a prompt have numbers of their own, use more seeds.")
    return [
        Picture(_name(number, sample, variant), subject, number * MOST + sample, variant)
        for variant in variants
        for number, subject in enumerate(subjects)
        for sample in range(n)
    ]


def batches_of(pictures: Sequence[Picture], size: int) -> list[list[Picture]]:
    """Up to `size` pictures of one variant at a time; the same in every start."""
    found: list[list[Picture]] = []
    for picture in pictures:
        if not found or len(found[-1]) == size or found[-1][0].variant is not picture.variant:
            found.append([])
        found[-1].append(picture)
    return found


def folder_name(pictures: Sequence[Picture]) -> str:
    """A name for their folder: the first words, and a digest of what they are drawn with."""
    words = re.findall(r"[a-z0-9]+", pictures[0].subject.text.lower())
    facts = repr([(picture.subject, picture.variant.facts, picture.variant.seed) for picture in pictures])
    digest = hashlib.sha256(facts.encode()).hexdigest()[:8]
    return "-".join([*words[:6], digest])


def _name(number: int, sample: int, variant: Variant) -> str:
    head = f"_{variant.head.replace(' ', '=')}" if variant.head else ""
    return f"{number:04}_{sample:04}{head}.png"
