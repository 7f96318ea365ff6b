"""Pure functions: tensors in, scalar out."""

from mmfound.losses.contrastive import clip_loss
from mmfound.losses.distillation import distillation_loss
from mmfound.losses.sigmoid import siglip_loss

__all__ = ["clip_loss", "distillation_loss", "siglip_loss"]
