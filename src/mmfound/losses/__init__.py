"""Pure functions: tensors in, scalar out."""

from mmfound.losses.contrastive import clip_loss

__all__ = ["clip_loss"]
