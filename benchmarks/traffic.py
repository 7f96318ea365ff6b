"""What every strategy moves in an optimiser step, from the shapes of a network; and for how long.

Shape letters: N ranks, B pairs on each in a micro-batch, G = N * B, E joint embedding width, P parameters.
"""

from collections.abc import Mapping
from math import ceil, nan, prod
from typing import NamedTuple

from collectives import Call
from torch import nn

from mmfound.strategies.fsdp2 import _blocks

OVERLAYS = ("ddp", "deepspeed_zero1", "deepspeed_zero2", "deepspeed_zero3", "fsdp2")
# Times (N - 1) / N of the payload, a rank sends:
RING = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "reduce": 1}  # of a reduction the mean over ranks
GLOO = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 2}  # the last all-reduces, and keeps a part
KEPT = 100_000  # DeepSpeed's stage3_param_persistence_threshold: smaller ones stay gathered between micro-batches
REUSE = 1_000_000_000  # its stage3_max_reuse_distance (what is needed again sooner is kept) and _max_live_parameters


class Part(NamedTuple):
    """A parameter.

    Attributes:
        shape: whole.
        in_block: whether FSDP2 shards it with a block, and not with the rest.
    """

    shape: tuple[int, ...]
    in_block: bool


class Setup(NamedTuple):
    """How a step is computed.

    Attributes:
        ranks: N.
        batch: B.
        micro_batches: of an optimiser step.
        half: whether weights are computed with in bfloat16.
        nccl: or gloo.
        reuse: see `REUSE`; the most parameters that are held ahead of time, too.
        ahead: whether parameters are gathered before they are needed, up to `reuse` of them; DeepSpeed does.
        to_owners: whether ZeRO 1 and 2 reduce every gradient to the rank that keeps it, and not to all.
    """

    ranks: int
    batch: int
    micro_batches: int = 1
    half: bool = False
    nccl: bool = True
    reuse: int = REUSE
    ahead: bool = True
    to_owners: bool = False


def parts(module: nn.Module) -> list[Part]:
    """The parameters of a module that may be split already."""
    inside = {id(parameter) for block in _blocks(module) for parameter in block.parameters()}
    return [Part(tuple(getattr(p, "ds_shape", p.shape)), id(p) in inside) for p in module.parameters()]


def size(network: list[Part]) -> int:
    """P."""
    return sum(prod(part.shape) for part in network)


def payloads(overlay: str, network: list[Part], embed_dim: int, setup: Setup) -> dict[Call, float]:
    """Bytes of the whole tensors that are reduced, gathered and scattered in a step.

    Args:
        overlay: one of `OVERLAYS`.
        network: all of it trained.
        embed_dim: E of a contrastive loss; 0 without one.
        setup: of the run.
    """
    return {**_of_weights(overlay, network, setup), **_of_embeddings(embed_dim, setup)}


def sent(payload: Mapping[Call, float], ranks: int, share: Mapping[str, int]) -> float:
    """Bytes that a rank sends for payloads, control left out; nan where `share` does not say."""
    moved = (share.get(call.kind, nan) * whole for call, whole in payload.items() if call.purpose != "control")
    return sum(moved) * (ranks - 1) / ranks


def _of_weights(overlay: str, network: list[Part], setup: Setup) -> dict[Call, float]:
    P, k = size(network), setup.micro_batches
    if overlay == "ddp":
        return _moves("all_reduce", P, "all_gather", 0, "float32")
    if overlay == "fsdp2":
        blocks, rest = (_padded(network, setup.ranks, inside) for inside in (True, False))
        return _moves("reduce_scatter", k * (blocks + rest), "all_gather", k * (2 * blocks + rest), "float32")
    dtype = "bfloat16" if setup.half else "float32"
    if overlay == "deepspeed_zero3":
        small = sum(prod(part.shape) for part in network if prod(part.shape) <= KEPT)
        kept = setup.reuse if setup.ahead else setup.reuse / 2  # the end of the forward pass begins the backward pass
        again = max(0, P - small - kept)
        return _moves("reduce_scatter", k * P, "all_gather", small + k * (P - small + again), dtype)
    reduces = "reduce" if setup.to_owners else "all_reduce"
    return _moves(reduces, (1 if overlay == "deepspeed_zero1" else k) * P, "all_gather", P, dtype)


def _of_embeddings(embed_dim: int, setup: Setup) -> dict[Call, float]:
    """Texts, and from every rank the log-sum-exp of all columns; forward and backward."""
    if not embed_dim:
        return {}
    G = setup.ranks * setup.batch
    whole = setup.micro_batches * 4 * G * (embed_dim + setup.ranks)
    backward = "reduce_scatter" if setup.nccl else "all_reduce"
    return {Call(kind, "embeddings", "float32"): whole for kind in ("all_gather", backward)}


def _moves(reduces: str, gradients: float, gathers: str, parameters: float, dtype: str) -> dict[Call, float]:
    width = {"float32": 4, "bfloat16": 2}[dtype]
    found = {Call(reduces, "gradients", dtype): width * gradients}
    return {**found, Call(gathers, "parameters", dtype): width * parameters} if parameters else found


def _padded(network: list[Part], ranks: int, in_block: bool) -> int:
    """FSDP2 cuts the first dimension into equal pieces, the last ones padded."""
    found = 0
    for shape, inside in network:
        if inside == in_block:
            first, *others = shape
            found += ceil(first / ranks) * ranks * prod(others)
    return found
