"""Any timm model as an image tower.

Shape letters: B images, N grid cells, D width, E joint embedding width.
"""

import difflib
from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers.activations import QuickGELU
from timm.models import group_parameters
from torch import Tensor, nn

from mmfound.errors import ConfigError
from mmfound.models.openai_weights import has_attention_pool, initialize_like_openai
from mmfound.nn.pixels import CLIP_MEAN, CLIP_STD, NormalizePixels
from mmfound.nn.transformer import QuickGelu


class TimmTower(nn.Module):
    """A timm model whose classifier is the projection into the joint space.

    The projection has no bias, as CLIP's; an attention pool, such as that of CLIP's ResNets, keeps the one it has.
    CLIP's ViTs and ResNets get OpenAI's initial weights, other models timm's. Nothing is downloaded.

    Args:
        name: timm's name of the architecture, such as `vit_base_patch32_clip_quickgelu_224` or `resnet50_clip`.
        embed_dim: E; null where the pooled features are the embedding, as in SigLIP.
        image_size: side of the images in pixels; the architecture's own where not given. Models that take any size
            ignore it.
        mean: of each channel, for images in [0, 1].
        std: of each channel.
        drop_path: stochastic depth, the rate of the last block.
        patch_drop: share of the patches a ViT leaves out in training.
        options: further arguments of `timm.create_model`, such as `depth`.

    Raises:
        ConfigError: if timm has no such model; the nearest names are given.
    """

    def __init__(
        self,
        name: str,
        embed_dim: int | None,
        *,
        image_size: int | None = None,
        mean: Sequence[float] = CLIP_MEAN,
        std: Sequence[float] = CLIP_STD,
        drop_path: float = 0.0,
        patch_drop: float = 0.0,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.pixels = NormalizePixels(mean, std)
        arguments: dict[str, Any] = dict(options or {})
        takes_one_size = _pretrained_cfg(name).fixed_input_size
        if image_size is not None and takes_one_size:
            arguments["img_size"] = image_size
        if drop_path:
            arguments["drop_path_rate"] = drop_path
        if patch_drop:
            arguments["patch_drop_rate"] = patch_drop
        self.model: Any = timm.create_model(name, num_classes=embed_dim or 0, **arguments)
        if embed_dim is not None and not has_attention_pool(self.model):
            self.model.get_classifier().register_parameter("bias", None)
        initialize_like_openai(self.model)
        _use_our_activation(self.model)
        self.width: int = self.model.num_features
        self._memory_format = torch.contiguous_format if _is_vit(self.model) else torch.channels_last
        self.model.to(memory_format=self._memory_format)

    def forward(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 in [0, 1] to [B, E], not normalised."""
        return self.model(self._pixels(image))

    def features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] to what is pooled before the projection, [B, D], normalised as the model does it."""
        return self.model.forward_head(self.model.forward_features(self._pixels(image)), pre_logits=True)

    def tokens(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [0, 1] to the grid before pooling, row by row, no class or register tokens: [B, N, D]."""
        features = self.model.forward_features(self._pixels(image))
        if features.ndim == 3:
            return features[:, getattr(self.model, "num_prefix_tokens", 0) :]
        channels_first = getattr(self.model, "output_fmt", "NCHW") == "NCHW"
        return features.flatten(2).transpose(1, 2) if channels_first else features.flatten(1, 2)

    def depths(self) -> dict[str, int]:
        """Depth of every parameter by name, as timm counts it: stem 0, block i at i + 1, head last.

        Raises:
            ConfigError: when timm does not say it of this architecture.
        """
        if not hasattr(self.model, "group_matcher"):
            raise ConfigError(
                f"timm does not know the layers of {type(self.model).__name__}; use mmfound.rates.RateTable."
            )
        depth: Any = group_parameters(self.model, self.model.group_matcher(coarse=False), reverse=True)
        return {f"model.{name}": layer for name, layer in depth.items()}

    def _pixels(self, image: Tensor) -> Tensor:
        dtype = next(self.model.parameters()).dtype
        return self.pixels(image).to(dtype, memory_format=self._memory_format)


def _use_our_activation(model: nn.Module) -> None:
    """Swap timm's QuickGELU for ours, which is faster and keeps less for the backward pass."""
    for module in model.modules():
        for name, part in module.named_children():
            if isinstance(part, QuickGELU):
                setattr(module, name, QuickGelu())


def _is_vit(model: nn.Module) -> bool:
    return hasattr(model, "patch_embed")


def _pretrained_cfg(name: str) -> Any:
    config = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if config is None:
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise ConfigError(f"timm has no model {name!r}." + (f" Nearest: {', '.join(near)}." if near else ""))
    return config
