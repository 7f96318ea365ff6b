"""Pictures of shapes with a hole in place of one object, and a prompt for what is to be there."""

from dataclasses import replace

import torch

from mmfound.batch import RawSample
from mmfound.data.source import Source
from mmfound.data.sources.shapes import Shapes
from mmfound.data.sources.shapes_captions import caption
from mmfound.data.sources.shapes_scene import Item, Scene
from mmfound.errors import ConfigError
from mmfound.seeding import mixed

_CHOICE, _REPLACED, _OTHER = 1, 2, 3  # purposes of the draws


class Refilled(Source):
    """`Shapes` where one object of every picture is to be drawn anew, as the prompt says.

    The prompt is the plain caption, in which a share of the samples names another object in that place: colour and
    shape of an object of another picture of the source, which this one does not show. `meta["hole"]` is x, y and radius
    of a circle around the object, as fractions of the side. Every shape fits into it, so that it does not say which one
    was there. The picture is the true one, of the first object.

    Args:
        source: pictures with one object or more.
        replaced: share of the samples whose prompt names another object.

    Raises:
        ConfigError: when the source is another, or the share out of range.
    """

    def __init__(self, source: Shapes, replaced: float = 0.5) -> None:
        if not isinstance(source, Shapes):
            raise ConfigError(f"Refilled draws holes into Shapes, whose scenes are known, not {type(source).__name__}.")
        if not 0 <= replaced <= 1:
            raise ConfigError(f"Refilled: replaced is {replaced}; it is a share of the samples, in [0, 1].")
        self._source, self.replaced, self.classes = source, replaced, source.classes

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> RawSample:
        sample, scene = self._source[index], self._source.scene(index)
        number = mixed(_CHOICE, index) % len(scene.items)
        hidden = scene.items[number]
        if mixed(_REPLACED, index) / 2**64 < self.replaced:
            items = [*scene.items]
            items[number] = self._other(index, scene, hidden)
            scene = replace(scene, items=tuple(items))
        hole = [hidden.x, hidden.y, hidden.radius]
        return {**sample, "captions": [caption(scene, "plain")], "meta": {**sample.get("meta", {}), "hole": hole}}

    def fingerprint(self) -> str:
        """The source's, and the share."""
        return f"Refilled:{self.replaced}:{self._source.fingerprint()}"

    def _other(self, index: int, scene: Scene, hidden: Item) -> Item:
        """The hidden object with colour and shape of one of another picture."""
        shown = {item.name for item in scene.items}
        for attempt in range(len(self._source)):
            look = self._source.scene(mixed(_OTHER, index, attempt) % len(self._source)).items[0]
            if look.name not in shown:
                return replace(hidden, colour=look.colour, shape=look.shape)
        raise ConfigError(f"{self._source.fingerprint()} shows the same objects everywhere; give it more pictures.")


def known(holes: list[list[float]], side: int, margin: float) -> torch.Tensor:
    """[B, 1, side, side] float32, 0 on pixels whose centre lies in a hole or less than `margin` pixels beside it."""
    at = torch.arange(side, dtype=torch.float64) + 0.5
    x, y, radius = (torch.tensor(holes, dtype=torch.float64) * side).T[:, :, None, None]
    distance = ((at - x) ** 2 + (at[:, None] - y) ** 2).sqrt()
    return (distance > radius + margin).float()[:, None]
