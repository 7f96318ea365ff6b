"""Sampling that a CLIP pulls towards a text.

Shape letters: B samples, L text length, E joint embedding width.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmfound.diffusion.estimates import Denoiser, Estimate
from mmfound.diffusion.levels import Level, spread
from mmfound.errors import ConfigError


class ClipScore:
    """exp(logit_scale) <text, picture>: what a noised CLIP says of samples, and its gradient.

    Args:
        encoder: a `DualEncoder`, frozen and in eval mode; its image tower a `NoisedTower` for a score that means
            something at every level.
        text_BE: [B, E] of unit length.
    """

    def __init__(self, encoder: nn.Module, text_BE: Tensor) -> None:
        self.encoder: Any = encoder
        self.text_BE = text_BE

    def __call__(self, x_t: Tensor, level: Level) -> Tensor:
        """[B, 3, H, W] noised samples to [B] logits."""
        image_BE = self.encoder.embed_noised(x_t, level)
        return self.encoder.logit_scale.to(image_BE.dtype).exp() * (image_BE * self.text_BE).sum(dim=1)

    def gradient(self, x_t: Tensor, level: Level) -> Tensor:
        """Of every sample's score with respect to the sample, [B, 3, H, W]; also where gradients are off."""
        with torch.inference_mode(False), torch.enable_grad():
            x_t = x_t.detach().clone().requires_grad_()
            return torch.autograd.grad(self(x_t, level).sum(), x_t)[0]


class ClipGuidance:
    """Pulls samples towards their texts by the gradient of a CLIP that has learned noise.

    The score function of the process is shifted by `scale` times the gradient of the CLIP's logits, and so the estimate
    of x0 by sigma^2 / alpha times that. For DDIM this is the published epsilon - sigma scale gradient. It moves the
    mean of an ancestral step by beta / sqrt(1 - beta) scale gradient, where the published one has the step's variance,
    at most beta, for that factor.

    Source: Nichol et al. 2021, arXiv:2112.10741; Dhariwal & Nichol 2021, arXiv:2105.05233, algorithms 1 and 2.

    Args:
        encoder: folder of an export or of released weights, loaded with its tokenizer when first needed; or the
            `DualEncoder` itself, frozen. A stage's own `sampling` names a folder: exports do not hold the encoder.
        scale: strength; 0 for none.
        tokens: key of the batch with [B, L] ids of the CLIP's own tokenizer; without it the texts under `prompt` are
            read by the tokenizer of the folder.
        token_mask: key of their mask.

    Raises:
        ConfigError: when the encoder is not frozen.
    """

    def __init__(
        self,
        encoder: str | nn.Module,
        scale: float,
        *,
        tokens: str = "tokens_clip",
        token_mask: str = "token_mask_clip",
    ) -> None:
        if isinstance(encoder, nn.Module) and any(part.training for part in encoder.modules()):
            raise ConfigError(
                "ClipGuidance: the encoder is in training mode. Name the folder of its export, or build it with "
                "mmfound.weights.pretrained, which freezes it."
            )
        self.scale = scale
        self.folder = None if isinstance(encoder, nn.Module) else str(encoder)
        self.tokens, self.token_mask = tokens, token_mask
        self._encoder: Any = encoder if isinstance(encoder, nn.Module) else None
        self._tokenizer: Any = None

    def __call__(self, denoise: Denoiser, batch: Mapping[str, Any]) -> Denoiser:
        """Guide a denoiser of pictures in [-1, 1].

        Args:
            denoise: of B samples; guided by their condition already, where that is wanted too.
            batch: their texts.

        Raises:
            ConfigError: when the batch has no texts for the CLIP, or there is no such encoder.
        """
        if self.scale == 0:
            return denoise
        tokens_BL, mask_BL = self._texts(batch)
        score: ClipScore | None = None

        def guided(x_t: Tensor, level: Level) -> Estimate:
            nonlocal score
            score = score or ClipScore(*self._embedded(tokens_BL, mask_BL, x_t.device))
            estimate = denoise(x_t, level)
            shift = spread(self.scale * level.sigma**2 / level.alpha, x_t) * score.gradient(x_t, level)
            return replace(estimate, x0=estimate.x0 + shift.to(estimate.x0.dtype))

        return guided

    def _texts(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        if self.tokens in batch:
            return batch[self.tokens], batch[self.token_mask]
        self._load()
        if "prompt" in batch and self._tokenizer is not None:
            read = self._tokenizer(list(batch["prompt"]))
            return read["tokens"], read["token_mask"]
        raise ConfigError(
            f"ClipGuidance reads {self.tokens!r}, ids of the CLIP's own tokenizer, and the batch has only "
            f"{sorted(batch)}. Set its tokens and token_mask to keys of the batch where the tokenizers are the same; "
            "or give prompts, and as its encoder a folder that holds its tokenizer."
        )

    @torch.inference_mode(False)
    @torch.no_grad()
    def _embedded(self, tokens_BL: Tensor, mask_BL: Tensor, device: torch.device) -> tuple[nn.Module, Tensor]:
        """The encoder on a device, and the texts' embeddings [B, E]."""
        self._load()
        self._encoder.to(device)
        return self._encoder, self._encoder.embed_text(tokens_BL.clone().to(device), mask_BL.clone().to(device))

    @torch.inference_mode(False)
    def _load(self) -> None:
        if self._encoder is not None:
            return
        from mmfound.encoders import load_encoder  # which imports this package

        assert self.folder is not None
        loaded = load_encoder(Path(self.folder))
        self._encoder, self._tokenizer = loaded.encoder, loaded.tokenizer
