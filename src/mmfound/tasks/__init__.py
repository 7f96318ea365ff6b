"""Objectives: one file each."""

from mmfound.tasks.base import Task

__all__ = ["Task"]
