"""What libraries say of a checkpoint that does not fit the recipe, in our words."""

import pickle
from pathlib import Path

from mmfound.errors import ConfigError

ERRORS = (RuntimeError, ValueError, pickle.UnpicklingError)


def misfit(error: Exception, checkpoint: Path | None) -> ConfigError | None:
    """The user's error behind one of `ERRORS`; None where it is another.

    Args:
        error: what loading has raised.
        checkpoint: what was loaded.
    """
    text = str(error)
    if isinstance(error, pickle.UnpicklingError):
        return ConfigError(
            f"checkpoint {checkpoint} holds more than tensors and plain values, which could run code; where you trust "
            "it, add --weights_only false"
        )
    if "Error(s) in loading state_dict" in text:
        first = text.splitlines()[1].strip()
        return ConfigError(
            f"checkpoint {checkpoint} does not fit this recipe's model: {first}; name another --run_dir, or undo the "
            "change to the model"
        )
    if "parameter group" in text:
        return ConfigError(
            f"checkpoint {checkpoint} does not fit this recipe's optimiser: {text}; name another --run_dir, or undo "
            "the change to the optimiser or to what is trained"
        )
    return None
