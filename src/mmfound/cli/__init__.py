"""The one entry point. Nothing here imports torch before a command needs it."""

from mmfound.cli.entry import main

__all__ = ["main"]
