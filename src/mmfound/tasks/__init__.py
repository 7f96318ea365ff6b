"""Objectives: one file each."""

from mmfound.tasks.base import Task
from mmfound.tasks.classification import Classification
from mmfound.tasks.contrastive import Contrastive

__all__ = ["Classification", "Contrastive", "Task"]
