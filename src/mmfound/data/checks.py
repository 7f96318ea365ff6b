"""What is looked at before the first step."""

from collections.abc import Mapping

from mmfound.data.errors import BadSample
from mmfound.data.mixture import Mixture
from mmfound.data.source import Source
from mmfound.errors import DataError
from mmfound.text.tokenizer import Tokenizer

_LOOKED_AT = 8  # samples, in case the first cannot be read


def check_sources(named: Mapping[str, Source], tokenizer: Tokenizer | None) -> None:
    """Refuse sources that are empty, or have no captions for the tokenizer.

    Args:
        named: the sources by their names in the recipe.
        tokenizer: None when no captions are wanted.

    Raises:
        DataError: naming the source.
    """
    for name, source in named.items():
        for part in source.sources if isinstance(source, Mixture) else [source]:
            kind = type(part).__name__
            if not len(part):
                raise DataError(f"data.init_args.{name}: {kind} has no samples; check its path.")
            if tokenizer is not None and not _has_captions(part):
                raise DataError(
                    f"data.init_args.{name} is {kind}, which has no captions, but data.init_args.tokenizer is "
                    f"{type(tokenizer).__name__}; use a source with captions, or leave the tokenizer out."
                )


def _has_captions(source: Source) -> bool:
    """Whether the first readable sample has any; True when none of the first can be read."""
    for index in range(min(_LOOKED_AT, len(source))):
        try:
            return bool(source[index].get("captions"))
        except BadSample:
            continue
    return True
