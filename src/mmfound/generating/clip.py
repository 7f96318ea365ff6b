"""A CLIP that pulls what is drawn towards its prompt."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from mmfound.diffusion.clip_guidance import ClipGuidance
from mmfound.encoders import LoadedEncoder, load_encoder
from mmfound.errors import ConfigError
from mmfound.text.lengths import cut_texts


@dataclass(frozen=True)
class Clip:
    """Guides the first stage.

    Args:
        loaded: the encoder, which should have learned noise, with its tokenizer.
    """

    loaded: LoadedEncoder

    def guidance(self, scale: float) -> ClipGuidance:
        """Of a scale; several share the encoder."""
        return ClipGuidance(self.loaded.encoder, scale)

    def read(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Keys of a batch that the guidance reads."""
        assert self.loaded.tokenizer is not None
        tokens = self.loaded.tokenizer(prompts)
        return {"tokens_clip": tokens["tokens"], "token_mask_clip": tokens["token_mask"]}


def load_clip(weights: str, prompts: Sequence[str], side: int) -> Clip:
    """A CLIP from an export or released weights.

    Args:
        weights: as `mmfound.encoders.load_encoder` reads them.
        prompts: that it will be asked about.
        side: of the pictures that it will be shown, in pixels.

    Raises:
        ConfigError: when there are no such weights, no tokenizer or no prompts, a prompt is too long, or it
            takes pictures of another size.
        DataError: when the weights are damaged.
    """
    loaded = load_encoder(weights)
    if loaded.picture.size != side:
        raise ConfigError(
            f"{weights} takes pictures of {loaded.picture.size} pixels a side, and the first export draws them of "
            f"{side}; name a CLIP that was trained for those."
        )
    if not prompts:
        raise ConfigError("--clip pulls pictures towards their prompts; give --prompt TEXT or --prompts FILE.")
    if loaded.tokenizer is None:
        raise ConfigError(f"{weights} has no tokenizer beside it, so that it cannot read prompts; put it there.")
    lines = cut_texts(loaded.tokenizer, prompts)
    if lines:
        raise ConfigError(f"{weights} cannot read the whole of {len(lines)} prompts; shorten them:\n  {lines[0]}")
    return Clip(loaded)
