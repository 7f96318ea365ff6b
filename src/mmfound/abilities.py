"""What a model can do. Evaluators, `generate` and the Python API ask for an ability, never for a class.

Shape letters: B samples, L text length, D width of the image tower, E joint embedding width.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch import Tensor

if TYPE_CHECKING:
    from mmfound.diffusion.levels import Level


@runtime_checkable
class EmbedsImages(Protocol):
    """Maps pictures into an embedding space."""

    def embed_image(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] -> [B, E] float32 of unit length."""
        ...


@runtime_checkable
class EmbedsText(Protocol):
    """Maps texts into the embedding space of the pictures."""

    def embed_text(self, tokens: Tensor, token_mask: Tensor) -> Tensor:
        """[B, L] int64 ids and [B, L] bool mask -> [B, E] float32 of unit length."""
        ...


@runtime_checkable
class EmbedsImagesAndText(EmbedsImages, EmbedsText, Protocol):
    """A dual encoder: both sides in one space."""


@runtime_checkable
class EmbedsNoised(Protocol):
    """Maps samples of a diffusion process into an embedding space."""

    def embed_noised(self, x_t: Tensor, level: "Level") -> Tensor:
        """[B, 3, H, W] variance-preserving, of pictures in [-1, 1], at a level -> [B, E] float32 of unit length."""
        ...


@runtime_checkable
class Classifies(Protocol):
    """Scores a fixed list of classes, those of the source it was trained on."""

    def classify(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] -> [B, classes] float32 logits."""
        ...


@runtime_checkable
class GivesImageFeatures(Protocol):
    """Describes pictures for probes: what its image tower has pooled, before the projection or classifier."""

    def image_features(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] -> [B, D] float32, not normalised."""
        ...


@runtime_checkable
class SamplesImages(Protocol):
    """Draws pictures.

    A property `pictures`, a set of keys of the batch, may name pictures that it has to be given; evaluators that do not
    give them then refuse it before the first step.
    """

    def sample_images(self, batch: Mapping[str, Any], indices: Sequence[int], seed: int) -> Tensor:
        """Draw one picture for each index.

        Args:
            batch: what the model's conditioners read (`tokens`, `token_mask`, `label`, ...), B rows on its device.
            indices: [B] sample numbers; a picture depends on (seed, index, its row of the batch) alone.
            seed: of the noise.

        Returns:
            [B, 3, H, W] float32 RGB in [0, 1].
        """
        ...


_METHODS = ("embed_image", "embed_text", "embed_noised", "classify", "image_features", "sample_images")


def abilities_of(model: object) -> tuple[str, ...]:
    """Names of the methods above that a model has."""
    return tuple(name for name in _METHODS if hasattr(model, name))
