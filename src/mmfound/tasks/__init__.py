"""Objectives: one file each."""

from mmfound.tasks.base import Task
from mmfound.tasks.classification import Classification
from mmfound.tasks.contrastive import Contrastive
from mmfound.tasks.pretrained import Pretrained

__all__ = ["Classification", "Contrastive", "Pretrained", "Task"]
