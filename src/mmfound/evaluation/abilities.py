"""Errors for models and data that lack what an evaluator needs."""

from typing import Any

from torch import nn

from mmfound.errors import ConfigError

EXAMPLES = {"classify": "Classification", "sample_images": "Diffusion"}


def require_abilities(user: str, model: nn.Module, *methods: str) -> None:
    """Refuse a model that lacks one of the methods of an ability.

    Args:
        user: what needs them, as it is called in the recipe.
        model: the task.
        methods: names from `mmfound.abilities`.

    Raises:
        ConfigError: naming the user, the model's class and what it lacks.
    """
    missing = [method for method in methods if not callable(getattr(model, method, None))]
    if missing:
        example = next((EXAMPLES[method] for method in methods if method in EXAMPLES), "Contrastive")
        raise ConfigError(
            f"{user} needs a model with {' and '.join(methods)}, but {type(model).__name__} has no "
            f"{' and no '.join(missing)}. Take it out of the recipe, or use a model that has it, such as "
            f"mmfound.tasks.{example}."
        )


def require_tokenizer(user: str, data: Any) -> None:
    """Refuse a DataModule without a tokenizer.

    Raises:
        ConfigError: naming the user.
    """
    if getattr(data, "tokenizer", None) is None:
        raise ConfigError(f"{user} needs a tokenizer, but data.init_args.tokenizer is not set. Set it.")
