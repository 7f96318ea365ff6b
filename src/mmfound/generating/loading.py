"""Pipelines from exports."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from mmfound.diffusion.pipeline import Link, Pipeline
from mmfound.diffusion.stage import Stage
from mmfound.errors import ConfigError
from mmfound.interop.files import is_foreign
from mmfound.text.lengths import cut_texts
from mmfound.text.loading import load_tokenizer
from mmfound.text.saved import FILE
from mmfound.text.tokenizer import Tokenizer
from mmfound.weights import CONFIG, WEIGHTS, describe, pretrained

_SHOWN = 5


@dataclass(frozen=True)
class Loaded:
    """What `load_pipeline` finds.

    Args:
        pipeline: on its device.
        tokenizers: of each export, or None.
        fingerprints: of each export, SHA-256 over its description, tokenizer and weights in hex.
    """

    pipeline: Pipeline
    tokenizers: list[Tokenizer | None]
    fingerprints: list[str]

    def check_prompts(self, prompts: Sequence[str]) -> None:
        """Refuse prompts that nobody reads, none where some are read, and those that would be cut.

        Raises:
            ConfigError: with the numbers of tokens.
        """
        readers = self.pipeline.reads("tokens")
        if prompts and not readers:
            names = ", ".join(link.name for link in self.pipeline.links)
            raise ConfigError(f"no stage reads text ({names}); leave the prompts out, --n says how many pictures.")
        for link, tokenizer in zip(self.pipeline.links, self.tokenizers, strict=True):
            if link not in readers:
                continue
            if not prompts:
                raise ConfigError(f"{link.name} draws what a text says; give --prompt TEXT or --prompts FILE.")
            if tokenizer is None:
                raise ConfigError(
                    f"{link.name} reads text and has no {FILE}, so that prompts cannot be tokenized. Put the one that "
                    "it was trained with there: `tokenizer.save(folder)` writes it, and an export of ours holds it; of "
                    "released GLIDE weights, `mmfound export --vocabulary vocab.bpe` writes it."
                )
            _refuse_cut(link, tokenizer, prompts)


def load_pipeline(folders: Sequence[Path | str], device: torch.device | str = "cpu", *, trust: bool = False) -> Loaded:
    """Stages in a row, each from its export.

    Args:
        folders: of exports, the stage that draws first, those that enlarge after it.
        device: where the networks run.
        trust: as of `mmfound.weights.pretrained`.

    Raises:
        ConfigError: when one is missing, is no stage, or does not fit the one before.
        DataError: when weights are damaged.
    """
    assert folders
    for folder in folders:
        if is_foreign(Path(folder)):
            raise ConfigError(
                f"{folder} is no export of ours; of released GLIDE weights, `mmfound export {folder} --to FOLDER` "
                "makes one."
            )
        describe(folder)  # all are looked at before the first is loaded
    links, tokenizers = [], []
    for folder in map(Path, folders):
        stage = pretrained(folder, trust=trust)
        if not isinstance(stage, Stage):
            raise ConfigError(
                f"{folder} holds a {type(stage).__name__}, which draws no pictures; name the export of a Stage."
            )
        tokenizer = load_tokenizer(folder) if (folder / FILE).is_file() else None
        links.append(Link(str(folder), stage.to(device), tokenizer))
        tokenizers.append(tokenizer)
    return Loaded(Pipeline(links), tokenizers, [fingerprint(Path(folder)) for folder in folders])


def fingerprint(folder: Path) -> str:
    """SHA-256 over the files of an export that change what is drawn, in hex."""
    whole = hashlib.sha256()
    for name in (CONFIG, FILE, WEIGHTS):
        if (folder / name).is_file():
            with open(folder / name, "rb") as file:
                whole.update(f"{name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


def _refuse_cut(link: Link, tokenizer: Tokenizer, prompts: Sequence[str]) -> None:
    lines = cut_texts(tokenizer, prompts)
    if lines:
        more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        listed = "".join(f"\n  {line}" for line in lines[:_SHOWN])
        raise ConfigError(f"{link.name} cannot read the whole of {len(lines)} prompts; shorten them:{listed}{more}")
