"""Sampling that a CLIP pulls towards a text.

Shape letters: B samples, L text length, E joint embedding width.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.guidance import Interval, Steering, clip_guided
from mmfound.diffusion.levels import Level
from mmfound.errors import ConfigError

Score = Callable[[Tensor, Level], Tensor]


class ClipGuidance(Steering):
    """Pulls samples towards their texts by the gradient of a CLIP that has learned noise.

    The score of a sample is exp(logit_scale) <text, picture>, both of unit length; see `clip_guided` for what it moves.
    Beside classifier-free guidance it comes after that.

    Source: Nichol et al. 2021, arXiv:2112.10741.

    Args:
        encoder: folder of an export or of released weights, loaded with its tokenizer when first needed; or the
            `DualEncoder` itself, frozen. A stage's own `sampling` names a folder: exports do not hold the encoder. Its
            image tower should be a `NoisedTower`; another takes noised samples for pictures.
        scale: of the gradient; 0 for none.
        interval: smallest and largest log-SNR at which to guide.
        tokens: key of the batch with [B, L] ids of the CLIP's own tokenizer; where the batch has none, the texts under
            `prompt` are read by the tokenizer of the folder.
        token_mask: key of their mask.

    Raises:
        ConfigError: when the encoder is not frozen.
    """

    def __init__(
        self,
        encoder: str | nn.Module,
        scale: float,
        *,
        interval: Interval | None = None,
        tokens: str = "tokens_clip",
        token_mask: str = "token_mask_clip",
    ) -> None:
        if isinstance(encoder, nn.Module) and any(part.training for part in encoder.modules()):
            raise ConfigError(
                "ClipGuidance: the encoder is in training mode. Name the folder of its export, or build it with "
                "mmfound.weights.pretrained, which freezes it."
            )
        self.scale = scale
        self.interval = interval
        self.tokens, self.token_mask = tokens, token_mask
        self.folder = None if isinstance(encoder, nn.Module) else str(encoder)
        self._encoder: Any = encoder if isinstance(encoder, nn.Module) else None
        self._tokenizer: Any = None

    def __call__(self, denoise: Denoiser, batch: Mapping[str, Any]) -> Denoiser:
        """Guide a denoiser of pictures in [-1, 1].

        Raises:
            ConfigError: when the batch has no texts for the CLIP, or there is no such encoder.
        """
        if self.scale == 0:
            return denoise
        tokens_BL, mask_BL = self._texts(batch)
        guided: Denoiser | None = None

        def on_the_sample_s_device(x_t: Tensor, level: Level) -> Estimate:
            nonlocal guided
            if guided is None:
                score = self._score(tokens_BL, mask_BL, x_t.device)
                guided = clip_guided(denoise, score, self.scale, interval=self.interval)
            return guided(x_t, level)

        return on_the_sample_s_device

    def check(self) -> None:
        """Whether the folder is there.

        Raises:
            ConfigError: when it is not.
        """
        if self.folder is not None and not Path(self.folder).exists():
            raise ConfigError(f"ClipGuidance: there is no {self.folder}; train it first, or name another encoder.")

    def score(self, batch: Mapping[str, Any], device: torch.device) -> Score:
        """(x_t [B, 3, H, W], level) to [B], how well samples fit the texts of a batch; differentiable in x_t."""
        return self._score(*self._texts(batch), device)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _score(self, tokens_BL: Tensor, mask_BL: Tensor, device: torch.device) -> Score:
        encoder = self._loaded().to(device)
        text_BE = encoder.embed_text(tokens_BL.clone().to(device), mask_BL.clone().to(device))

        def score(x_t: Tensor, level: Level) -> Tensor:
            image_BE = encoder.embed_noised(x_t, level)
            return encoder.logit_scale.to(image_BE.dtype).exp() * (image_BE * text_BE).sum(dim=1)

        return score

    def _texts(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        if self.tokens in batch:
            return batch[self.tokens], batch[self.token_mask]
        self._loaded()
        if "prompt" in batch and self._tokenizer is not None:
            read = self._tokenizer(list(batch["prompt"]))
            return read["tokens"], read["token_mask"]
        raise ConfigError(
            f"ClipGuidance reads {self.tokens!r}, ids of the CLIP's own tokenizer, and the batch has only "
            f"{sorted(batch)}. Set its tokens and token_mask to keys of the batch where the tokenizers are the same; "
            "or give prompts, and for its encoder a folder that holds its tokenizer."
        )

    @torch.inference_mode(False)
    def _loaded(self) -> Any:
        if self._encoder is None:
            from mmfound.encoders import load_encoder  # which imports this package

            assert self.folder is not None
            loaded = load_encoder(Path(self.folder))
            self._encoder, self._tokenizer = loaded.encoder, loaded.tokenizer
        return self._encoder
