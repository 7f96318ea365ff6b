"""Tables of what strategies move on many GPUs, and how long that takes; computed from assumptions, not measured."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from traffic import RING, Part, Setup, parts, payloads, sent, size

from mmfound.models import DualEncoder, TextTransformer, TimmTower

GPUS = (8, 32, 64, 128, 256, 512)
COLUMNS = {"DDP": "ddp", "ZeRO 1, 2": "deepspeed_zero2", "ZeRO 3": "deepspeed_zero3", "FSDP2": "fsdp2"}
PEAK, UTILISATION = 989e12, 0.4  # FLOP/s of an H100 in dense bfloat16, and the share of it that training gets
NVLINK, PORT, GPUS_OF_NODE = 450e9, 50e9, 8  # bytes/s each way of a GPU in its node, and of a 400 Gb/s port
OVERLAP = 2 / 3  # share of the computing that communication can hide behind: the backward pass
CLIP_BATCH = 32_768


class Workload(NamedTuple):
    """What is trained.

    Attributes:
        name: for people.
        network: its parameters.
        embed_dim: E; 0 where there is no contrastive loss.
        flops: of a sample, forward and backward.
        batch: samples of each GPU by number of GPUs.
    """

    name: str
    network: list[Part]
    embed_dim: int
    flops: float
    batch: Callable[[int], int]


def workloads() -> list[Workload]:
    """Two CLIP recipes, and a diffusion transformer of 3.5 billion parameters on 1,024 patches of 2 x 2 latents."""
    flops_B32 = _transformer(50, 768, 12) + _transformer(77, 512, 12)
    flops_L14 = _transformer(257, 1024, 24) + _transformer(77, 768, 12)
    with torch.device("meta"):
        text_B32, text_L14 = (TextTransformer(49408, 77, D, 12, D // 64, D) for D in (512, 768))
        vit_B32 = parts(DualEncoder(TimmTower("vit_base_patch32_clip_quickgelu_224", 512), text_B32))
        vit_L14 = parts(DualEncoder(TimmTower("vit_large_patch14_clip_quickgelu_224", 768), text_L14))
    D, depth = 2560, 44
    block = [(3 * D, D), (D, D), (4 * D, D), (D, 4 * D)]
    denoiser = [Part(shape, True) for _ in range(depth) for shape in block]
    return [
        Workload("CLIP ViT-B/32", vit_B32, 512, flops_B32, lambda N: CLIP_BATCH // N),
        Workload("CLIP ViT-L/14", vit_L14, 768, flops_L14, lambda N: CLIP_BATCH // N),
        Workload("denoiser", denoiser, 0, _transformer(1024, D, depth), lambda N: 4),
    ]


def seconds(moved: float, ranks: int) -> tuple[float, float]:
    """With a port per GPU, all of which a node's rings leave by; and with one port per node, for one ring."""
    if ranks <= GPUS_OF_NODE:
        return moved / NVLINK, moved / NVLINK
    return moved / min(NVLINK, GPUS_OF_NODE * PORT), moved / PORT


def tables() -> str:
    """One per workload; bold where communication takes longer than the backward pass."""
    return "\n\n".join([*(_table(work) for work in workloads()), _padding(workloads())])


def _table(work: Workload) -> str:
    title = f"{work.name}: {size(work.network) / 1e6:,.0f} M parameters, {work.flops / 1e9:,.1f} GFLOP a sample"
    lines = [title, "", f"| GPUs | samples / GPU | computing | {' | '.join(COLUMNS)} |", "|---" * 7 + "|"]
    for N in GPUS:
        setup = Setup(N, work.batch(N), half=True)
        computing = setup.batch * work.flops / (PEAK * UTILISATION)
        cells = [_cell(work, overlay, setup, computing) for overlay in COLUMNS.values()]
        lines.append(f"| {N} | {setup.batch:,} | {_ms(computing)} ms | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(work: Workload, overlay: str, setup: Setup, computing: float) -> str:
    moved = sent(payloads(overlay, work.network, work.embed_dim, setup), setup.ranks, RING)
    times = dict.fromkeys(seconds(moved, setup.ranks))  # once where both are the same
    shown = [f"**{_ms(time)}**" if time > OVERLAP * computing else _ms(time) for time in times]
    return f"{moved / 1e9:.2f} GB: {' / '.join(shown)} ms"


def _padding(works: list[Workload]) -> str:
    """What is moved beside the weights."""
    lines = ["| | " + " | ".join(str(N) for N in GPUS) + " |", "|---" * (len(GPUS) + 1) + "|"]
    for work in works:
        P = 4 * size(work.network)
        shares = [_gradients(work, N) / P - 1 for N in GPUS]
        lines.append(f"| {work.name}: padding of FSDP2 | " + " | ".join(f"{share:.1%}" for share in shares) + " |")
        if work.embed_dim:
            exchanged = [payloads("ddp", [], work.embed_dim, Setup(N, work.batch(N))) for N in GPUS]
            moved = (f"{sent(one, N, RING) / 1e6:,.0f} MB" for one, N in zip(exchanged, GPUS, strict=True))
            lines.append(f"| {work.name}: contrastive loss | " + " | ".join(moved) + " |")
    return "\n".join(lines)


def _gradients(work: Workload, ranks: int) -> float:
    payload = payloads("fsdp2", work.network, 0, Setup(ranks, 1))
    return sum(whole for call, whole in payload.items() if call.purpose == "gradients")


def _transformer(tokens: int, width: int, depth: int) -> float:
    """FLOPs of forward and backward, twice the forward: projections and attention, nothing computed again."""
    return 3 * tokens * depth * (24 * width**2 + 4 * tokens * width)


def _ms(time: float) -> str:
    return f"{1000 * time:,.0f}" if time >= 0.00995 else f"{1000 * time:.1f}"
