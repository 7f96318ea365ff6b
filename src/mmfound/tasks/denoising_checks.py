"""What is said at the start of a run about inputs that make diffusion fail quietly."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.rank_zero import rank_zero_warn
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from mmfound.data.captions import FirstCaption
from mmfound.diffusion.spaces import Space
from mmfound.text.lengths import cut_texts

LARGE = 20_000_000  # trained weights; smaller networks bear larger steps
HIGHEST_RATE = {True: 5.0e-4, False: 5.0e-3}  # for large networks, and for small ones
_CAPTIONS = 512  # of the source that are counted
_GIB = 2**30
_MEMINFO = Path("/proc/meminfo")


def check_x0(space: Space, x0: Tensor) -> None:
    """Warn of samples whose scale is not what the noise is made for.

    Args:
        space: that they are of.
        x0: [B, ...] of the first batch.
    """
    name, rms = type(space).__name__, float(x0.float().square().mean().sqrt())
    if not 0.5 <= rms <= 2 and not (space.bounds is not None and rms >= 0.25):
        rank_zero_warn(
            f"the samples of {name} have a root mean square of {rms:.3g}, where the noise has 1 and the objective "
            "expects about as much: scale them, or the schedule's noise levels do not mean what they say."
        )
    if space.bounds is not None and (
        float(x0.min()) < space.bounds[0] - 1e-3 or float(x0.max()) > space.bounds[1] + 1e-3
    ):
        rank_zero_warn(
            f"the samples of {name} lie between {float(x0.min()):.3g} and {float(x0.max()):.3g}, outside of its bounds "
            f"{space.bounds}; sampling would cut them off."
        )


def check_rate(module: nn.Module, optimizers: list[Any]) -> None:
    """Warn of a learning rate far above those that such networks are trained with."""
    weights = sum(_size(p) for p in module.parameters() if p.requires_grad)
    is_large = weights >= LARGE
    rate = max((g.get("initial_lr", g["lr"]) for o in optimizers for g in o.param_groups), default=0.0)
    if rate > HIGHEST_RATE[is_large]:
        size = f"{weights / 1e6:.0f} M" if is_large else f"{weights / 1e6:.1f} M"
        rank_zero_warn(
            f"the learning rate is {rate:.2g} for a network of {size} weights, above {HIGHEST_RATE[is_large]:.2g}; "
            "guided-diffusion trains with 1e-4. Too high a rate gives low losses and samples of noise."
        )


def check_captions(data: Any) -> None:
    """Warn of captions that the tokenizer cuts, counted among the first of the source that are trained on."""
    tokenizer, source = getattr(data, "tokenizer", None), getattr(data, "source", None)
    if tokenizer is None or source is None:
        return
    picked = getattr(data, "caption", FirstCaption()).possible(source.captions())
    texts = list(islice(picked, _CAPTIONS))
    cut = cut_texts(tokenizer, texts)
    if cut:
        rank_zero_warn(
            f"{len(cut)} of the first {len(texts)} captions are longer than the tokenizer's context and are cut; the "
            f"first has {cut[0]}. Raise the context of tokenizer and text transformer, or shorten the captions."
        )


def check_memory(module: nn.Module, optimizers: list[Any], *, averages: bool, device: torch.device) -> None:
    """Warn when weights, gradients, optimiser and average together need more than there is.

    Args:
        module: whatever of it this rank holds.
        optimizers: what Adam-like ones keep is counted, whether they have it yet or not.
        averages: whether the run keeps one of the weights.
        device: of the weights.
    """
    needed = memory_needed(module, optimizers, averages=averages)
    has = _available(device) + sum(_local(p).numel() * p.element_size() for p in module.parameters())
    if needed > has:
        rank_zero_warn(
            f"weights, gradients, optimiser and average of {type(module).__name__} take about {needed / _GIB:.1f} GiB, "
            f"and activations come on top, but {device} has {has / _GIB:.1f} GiB. Use more devices with "
            "machines/fsdp2 or a machines/deepspeed overlay, or a smaller network; recompute: true and "
            "data.init_args.micro_batch_size lower what activations take."
        )


def memory_needed(module: nn.Module, optimizers: list[Any], *, averages: bool) -> int:
    """Bytes of weights, gradients, optimiser and average."""
    moments = max((_moments(group) for o in optimizers for group in o.param_groups), default=0)
    total = 0
    for parameter in module.parameters():
        local = _local(parameter)
        bytes_of_weights = local.numel() * local.element_size()
        total += bytes_of_weights
        if parameter.requires_grad:
            total += bytes_of_weights * (1 + moments) + 4 * local.numel() * averages
    return total


def _moments(group: dict[str, Any]) -> int:
    """Tensors of a weight's size that the optimiser keeps."""
    return 2 if "betas" in group else int(bool(group.get("momentum")))


def _size(parameter: Tensor) -> int:
    """Of a whole parameter; ZeRO 3 leaves an empty one where it was."""
    return getattr(parameter, "ds_numel", parameter.numel())


def _local(parameter: Tensor) -> Tensor:
    if hasattr(parameter, "ds_tensor"):
        return parameter.ds_tensor  # pyright: ignore[reportAttributeAccessIssue]
    return parameter.to_local() if isinstance(parameter, DTensor) else parameter


def _available(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not _MEMINFO.exists():
        return 1 << 62
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _MEMINFO.read_text(), flags=re.MULTILINE)
    return int(found[1]) * 1024 if found else 1 << 62
