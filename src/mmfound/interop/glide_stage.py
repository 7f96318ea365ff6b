"""A stage of GLIDE's released weights: what they do not say is taken from the code that was published with them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mmfound.errors import ConfigError
from mmfound.interop.facts import Said
from mmfound.interop.glide import describe_glide, from_glide

_ENLARGED = 4  # times, by an upsampler
_TEMPERATURE = 0.997  # of an upsampler's first noise
_SPACING = "linspace"  # whose 100 times are those of "100", and which has any other number too
_SCALES = {(): 3.0, ("inpaint",): 5.0}  # of guidance, which upsamplers were not trained for


def describe_stage(weights: Mapping[str, Tensor], said: Said, path: Any) -> dict[str, Any]:
    """class_path and init_args of a `Stage`, and image.

    Betas are cosine for pictures from noise, linear for upsamplers; the variance is learned, samples are drawn as in
    the published examples: 100 steps with guidance, or 27 of an upsampler.

    Args:
        weights: under their released names; only shapes are looked at.
        said: `text_heads`, where they are not 64 wide.
        path: where they are from, for errors.

    Raises:
        ConfigError: when they are of another architecture, or something is said that nothing can be made of.
    """
    unfit = [name for name in ("activation", "image_heads", "image_size", "context") if getattr(said, name)]
    if unfit:
        raise ConfigError(f"{path} holds a stage of GLIDE, which has one {unfit[0]} alone; leave {unfit[0]} out")
    described = describe_glide(weights, path, text_heads=said.text_heads)
    concat = tuple(described["concat"])
    size = 2 ** (len(described["network"]["init_args"]["multipliers"]) + 2)
    enlarges = "low_res" in concat
    betas = _part("diffusion.LinearBetas" if enlarges else "diffusion.CosineBetas")
    text = _part("diffusion.conditioning.TrainedText", transformer=described["text"], drop=0.0 if enlarges else 0.2)
    init = {
        "network": described["network"],
        "schedule": _part("diffusion.DiscreteSchedule", betas=betas, spacing="fast27" if enlarges else _SPACING),
        "prediction": _part("diffusion.Epsilon"),
        "variance": _part("diffusion.LearnedRange"),
        "space": _part("diffusion.PixelSpace", size=size),
        "conditioners": [text, *(_beside(name, size) for name in concat)],
        "sampling": _part("diffusion.Sampling", **_sampling(concat)),
    }
    return {**_part("diffusion.Stage", **init), "image": {"size": size}}


def stage_weights(weights: Mapping[str, Tensor], described: Mapping[str, Any]) -> dict[str, Tensor]:
    """The same weights under the names of the stage that `describe_stage` describes."""
    text = described["init_args"]["conditioners"][0]["init_args"]["transformer"]
    network, transformer = from_glide(weights, text_heads=text["init_args"]["heads"])
    prefixed = {f"conditioners.0.transformer.{name}": value for name, value in transformer.items()}
    return {**{f"network.{name}": value for name, value in network.items()}, **prefixed}


def text_of(described: Mapping[str, Any]) -> dict[str, Any]:
    """init_args of the text transformer of such a stage."""
    return described["init_args"]["conditioners"][0]["init_args"]["transformer"]["init_args"]


def _part(path: str, **init_args: Any) -> dict[str, Any]:
    return {"class_path": f"mmfound.{path}", "init_args": init_args}


def _beside(name: str, size: int) -> dict[str, Any]:
    if name == "inpaint":
        return _part("diffusion.conditioning.Inpainting", size=size)
    smaller = {"size": size // _ENLARGED, "target": size, "interpolation": "bilinear"}
    return _part("diffusion.conditioning.LowResolution", **smaller)


def _sampling(concat: tuple[str, ...]) -> dict[str, Any]:
    held = {"threshold": _part("diffusion.Static")}
    sampler = _part("diffusion.Ddim" if concat == ("low_res",) else "diffusion.Ddpm")
    if concat in _SCALES:
        guidance = _part("diffusion.ClassifierFree", scale=_SCALES[concat])
        return {"sampler": sampler, "steps": 100, "guidance": guidance, **held}
    return {"sampler": sampler, "steps": 27, "temperature": _TEMPERATURE, **held}
