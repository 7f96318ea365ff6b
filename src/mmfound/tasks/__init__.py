"""Objectives: one file each."""

from mmfound.tasks.base import Task
from mmfound.tasks.contrastive import Contrastive

__all__ = ["Contrastive", "Task"]
