"""Tiny CLIP towers for 64-pixel images, E = 32."""

from timm.models.byobnet import ByoBlockCfg

from mmfound.models import TimmTower


def tiny_vit(width: int = 128, depth: int = 2) -> TimmTower:
    """CLIP's ViT with patches of 32 pixels."""
    options = {"embed_dim": width, "depth": depth, "num_heads": width // 64}
    return TimmTower("vit_base_patch32_clip_quickgelu_224", 32, image_size=64, options=options)


def tiny_resnet() -> TimmTower:
    """CLIP's ResNet with a stem of 16 channels and blocks 1, 2, 1, 1."""
    blocks = zip([1, 2, 1, 1], [64, 128, 256, 512], [1, 2, 2, 2], strict=True)
    bottlenecks = tuple(ByoBlockCfg(type="bottle", d=d, c=c, s=s, br=0.25) for d, c, s in blocks)
    return TimmTower("resnet50_clip", 32, image_size=64, options={"blocks": bottlenecks, "stem_chs": (8, 8, 16)})
