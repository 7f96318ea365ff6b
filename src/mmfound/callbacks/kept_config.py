"""The configuration that the run folder keeps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmfound.errors import ConfigError


def kept_config(run: Path, user: str) -> Mapping[str, Any]:
    """The newest `config*.yaml` of a run folder.

    Raises:
        ConfigError: when there is none, naming the callback that wants it.
    """
    kept = sorted(run.glob("config*.yaml"), key=lambda path: path.stat().st_mtime)
    if not kept:
        raise ConfigError(f"{user} was given no config, and {run} has no config.yaml. Set its `config`.")
    return yaml.safe_load(kept[-1].read_text(encoding="utf-8"))
