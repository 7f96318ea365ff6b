"""The recipe of a `DualEncoder` from the names and shapes of its weights, and what those do not decide."""

import math
import re
from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.interop.facts import Facts, Said, settle

_IMAGE, _TEXT = "image_tower.model.", "text_tower."
_HEAD_WIDTH = 64  # of every CLIP that OpenAI released
_WIDEST = 1024  # wider towers of open_clip's have other heads

Config = dict[str, Any]


class Architecture:
    """What one `DualEncoder` is made of.

    Args:
        state: its weights under our names; only their shapes are looked at.
        facts: what is known besides.
        said: what the user says.
        path: where the weights are from, for errors.
    """

    def __init__(self, state: Mapping[str, Tensor], facts: Facts, said: Said, path: Any) -> None:
        self.state, self.facts, self.said, self.path = state, facts, said, path

    def describe(self) -> Config:
        """class_path and init_args.

        Raises:
            ConfigError: when a tower is of another architecture, or something has to be said.
        """
        init: Config = {"image_tower": self._image(), "text_tower": self._text()}
        if "logit_bias" in self.state:
            init["init_bias"] = -10.0
        return {"class_path": "mmfound.models.DualEncoder", "init_args": init}

    def image_size(self) -> int:
        """Side of the pictures in pixels."""
        return self.said.image_size or self._own_image_size()

    def _own_image_size(self) -> int:
        if self.facts.image_size is not None:
            return self.facts.image_size
        if f"{_IMAGE}head.pos_embed" in self.state:
            return 32 * math.isqrt(self._shape(f"{_IMAGE}head.pos_embed")[0] - 1)
        if f"{_IMAGE}pos_embed" in self.state and f"{_IMAGE}patch_embed.proj.weight" in self.state:
            cells = self._shape(f"{_IMAGE}pos_embed")[1] - (f"{_IMAGE}cls_token" in self.state)
            return self._shape(f"{_IMAGE}patch_embed.proj.weight")[-1] * math.isqrt(cells)
        raise ConfigError(f"{self.path} does not say the size of its pictures; set image_size")

    def _image(self) -> Config:
        if self.facts.timm is not None:
            return self._timm(self.facts.timm)
        if f"{_IMAGE}stem.conv3.conv.weight" in self.state:
            return self._resnet()
        if f"{_IMAGE}patch_embed.proj.weight" in self.state and f"{_IMAGE}pos_embed" in self.state:
            return self._vit()
        raise ConfigError(
            f"{self.path} has an image tower of another architecture: expected is a ResNet or ViT of CLIP or a ViT of "
            f"SigLIP, and found {self._some('image_tower.')}"
        )

    def _pictures(self) -> Config:
        return {"image_size": self.image_size(), "mean": list(self.facts.mean), "std": list(self.facts.std)}

    def _timm(self, name: str) -> Config:
        pooled = f"{_IMAGE}{getattr(timm.get_pretrained_cfg(name), 'classifier', None)}.weight"
        embed_dim = self._shape(pooled)[0] if pooled in self.state else None
        arguments = {"name": name, "embed_dim": embed_dim, **self._pictures()}
        if self.facts.timm_pool:
            arguments["options"] = {"global_pool": self.facts.timm_pool}
        return {"class_path": "mmfound.models.TimmTower", "init_args": arguments}

    def _resnet(self) -> Config:
        depths = [self._count(rf"{re.escape(_IMAGE)}stages\.{stage}\.(\d+)\.") for stage in range(4)]
        width = self._shape(f"{_IMAGE}stem.conv3.conv.weight")[0]
        heads = settle("image_heads", self.said.image_heads, self.facts.image_heads, self.path, self.said.override)
        if heads not in (None, width * 32 // _HEAD_WIDTH):
            raise ConfigError(f"{self.path}: image_heads is {heads}; a ResNet {width} wide has heads 64 wide here")
        embed_dim = self._shape(f"{_IMAGE}head.proj.weight")[0]
        arguments = {"depths": depths, "width": width, "embed_dim": embed_dim, **self._pictures()}
        return {"class_path": "mmfound.models.ClipResNet", "init_args": arguments}

    def _vit(self) -> Config:
        width, _, patch_size, _ = self._shape(f"{_IMAGE}patch_embed.proj.weight")
        siglip = f"{_IMAGE}attn_pool.latent" in self.state
        options = {
            "embed_dim": width,
            "depth": self._count(rf"{re.escape(_IMAGE)}blocks\.(\d+)\."),
            "num_heads": self._heads("image_heads", width),
            "patch_size": patch_size,
            "act_layer": self._activation("image"),
        }
        hidden = self._shape(f"{_IMAGE}blocks.0.mlp.fc1.weight")[0]
        if hidden != 4 * width:
            options["mlp_ratio"] = (hidden + 0.5) / width  # timm cuts the product
        name = "vit_base_patch16_siglip_224" if siglip else "vit_base_patch16_clip_224"
        embed_dim = None if siglip else self._shape(f"{_IMAGE}head.weight")[0]
        arguments = {"name": name, "embed_dim": embed_dim, **self._pictures(), "options": options}
        return {"class_path": "mmfound.models.TimmTower", "init_args": arguments}

    def _text(self) -> Config:
        vocab_size, width = self._shape(f"{_TEXT}token_embedding.weight")
        siglip = f"{_TEXT}head.weight" in self.state
        context = self.said.context or self._shape(f"{_TEXT}positional_embedding")[0]
        arguments: Config = {
            "vocab_size": vocab_size,
            "context": context,
            "width": width,
            "depth": self._count(rf"{re.escape(_TEXT)}blocks\.(\d+)\."),
            "heads": self._heads("text_heads", width),
            "embed_dim": self._shape(f"{_TEXT}head.weight")[0] if siglip else self._shape(f"{_TEXT}text_projection")[1],
            "activation": self._activation("text"),
        }
        hidden = self._shape(f"{_TEXT}blocks.0.mlp.c_fc.weight")[0]
        if siglip:
            arguments |= {"mlp_width": hidden, "pad_id": self.facts.pad_id}
            return {"class_path": "mmfound.models.SiglipText", "init_args": arguments}
        if hidden != 4 * width:
            raise ConfigError(f"{self.path}: the text tower's MLPs are {hidden} wide, and built are {4 * width}")
        return {"class_path": "mmfound.models.TextTransformer", "init_args": arguments}

    def _activation(self, tower: str) -> str:
        known = getattr(self.facts, f"{tower}_activation")
        found = settle("activation", self.said.activation, known, self.path, self.said.override)
        if found is None:
            raise ConfigError(
                f"{self.path} does not say the activation of its towers, and a wrong one spoils them silently: set "
                "activation to quick_gelu (all of OpenAI's weights) or gelu (most of open_clip's), or put the "
                "weights' configuration beside them"
            )
        return found

    def _heads(self, option: str, width: int) -> int:
        heads = settle(option, getattr(self.said, option), getattr(self.facts, option), self.path, self.said.override)
        if heads is None and (width % _HEAD_WIDTH or width > _WIDEST):
            raise ConfigError(
                f"{self.path} does not say how many attention heads its tower of width {width} has; set {option}, or "
                "put the weights' configuration beside them"
            )
        heads = heads or width // _HEAD_WIDTH
        if heads < 1 or width % heads:
            raise ConfigError(f"{self.path}: {option} is {heads}, which does not divide the tower's width {width}")
        return heads

    def _shape(self, name: str) -> list[int]:
        if name not in self.state:
            raise ConfigError(
                f"{self.path} holds weights of another architecture: expected is {name}, and found "
                f"{self._some(name.partition('.')[0])}"
            )
        return list(self.state[name].shape)

    def _count(self, pattern: str) -> int:
        numbers = {int(match[1]) for name in self.state if (match := re.match(pattern, name))}
        return max(numbers, default=-1) + 1

    def _some(self, prefix: str) -> str:
        named = [f"{name} {list(value.shape)}" for name, value in self.state.items() if name.startswith(prefix)]
        return ", ".join(named[:3]) or "none"
