"""Objectives: one file each."""

from mmfound.tasks.base import Task
from mmfound.tasks.classification import Classification
from mmfound.tasks.contrastive import Contrastive
from mmfound.tasks.diffusion import Diffusion
from mmfound.tasks.distillation import DistilledContrastive
from mmfound.tasks.pretrained import Pretrained
from mmfound.tasks.siglip import Siglip

__all__ = ["Classification", "Contrastive", "Diffusion", "DistilledContrastive", "Pretrained", "Siglip", "Task"]
