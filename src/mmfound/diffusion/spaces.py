"""What is diffused: pixels here; latents and embeddings are further spaces."""

from abc import abstractmethod

from torch import Tensor, nn

from mmfound.errors import ConfigError


class Space(nn.Module):
    """Where the process lives, and the way there and back.

    Attributes:
        shape: of one sample, without the batch.
    """

    shape: tuple[int, ...]

    @abstractmethod
    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] float32 RGB in [0, 1] -> [B, *shape] samples of about unit variance."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Tensor:
        """[B, *shape] -> [B, 3, H, W] float32 RGB in [0, 1]."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float] | None:
        """Smallest and largest value of a sample, or None; what thresholds hold an estimate to."""


class PixelSpace(Space):
    """RGB in [-1, 1].

    Args:
        size: side of the pictures, in pixels.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        if size < 1:
            raise ConfigError(f"PixelSpace: size is {size}; it is the side of the pictures in pixels.")
        self.shape = (3, size, size)

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, size, size] in [0, 1] -> [-1, 1].

        Raises:
            ConfigError: when the pictures have another size.
        """
        if tuple(image.shape[1:]) != self.shape:
            height, width = image.shape[-2:]
            raise ConfigError(
                f"PixelSpace has size: {self.shape[1]}, but the pictures have {width} x {height} pixels with "
                f"{image.shape[1]} channels. Set data.init_args.image_size to the size, or the size to that."
            )
        return image * 2 - 1

    def decode(self, x0: Tensor) -> Tensor:
        return (x0.clamp(-1, 1) + 1) / 2

    @property
    def bounds(self) -> tuple[float, float]:
        return (-1.0, 1.0)
