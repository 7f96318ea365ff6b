"""Time and memory of clip_loss and siglip_loss, forward and backward, against the textbook formula and open_clip.

Run: python benchmarks/loss.py [--batch 8192] [--width 512] [--threads 2]
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmfound.losses.contrastive import clip_loss
from mmfound.losses.sigmoid import siglip_loss

VARIANTS = ["textbook", "open_clip", "whole", "default", "256", "siglip:open_clip", "siglip:1024", "siglip:default"]


def textbook(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Two products and two cross-entropies, as the usual open-source loss computes them."""
    target = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(scale * image @ text.T, target) + F.cross_entropy(scale * text @ image.T, target)) / 2


def chosen(variant: str, batch: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss that a variant's name stands for."""
    bias = torch.tensor([-10.0], device="cuda" if torch.cuda.is_available() else "cpu", requires_grad=True)
    if variant == "textbook":
        return textbook
    if variant == "open_clip":
        from open_clip.loss import ClipLoss

        theirs = ClipLoss()
        return lambda image, text, scale: theirs(image, text, scale)
    if variant == "siglip:open_clip":
        from open_clip.loss import SigLipLoss

        theirs = SigLipLoss()
        return lambda image, text, scale: theirs(image, text, scale, bias)
    kind, _, tile = variant.rpartition(":")
    rows = None if tile == "default" else batch if tile == "whole" else int(tile)
    if kind == "siglip":
        return lambda image, text, scale: siglip_loss(image, text, scale, bias, tile=rows)
    return lambda image, text, scale: clip_loss(image, text, scale, tile=rows)


def measure(variant: str, batch: int, width: int, threads: int, repeats: int, results: Any) -> None:
    """Put (loss, seconds of the fastest repeat, peak MiB beyond the embeddings)."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    image, text = (F.normalize(torch.randn(batch, width, device=device), dim=1).requires_grad_() for _ in range(2))
    scale = torch.tensor([14.3], device=device, requires_grad=True)
    loss_of = chosen(variant, batch)
    clip_loss(image[:64], text[:64], scale).backward()  # loads kernels
    before, seconds, loss = peak_mib(device), [], torch.zeros(())
    for _ in range(repeats):
        start = time.perf_counter()
        loss = loss_of(image, text, scale)
        loss.backward()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    results.put((loss.item(), min(seconds), peak_mib(device) - before))


def peak_mib(device: str) -> float:
    """Most memory in use so far: of the process on the CPU, of the allocator on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def main() -> None:
    """Print one row per way of computing the loss, each from a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--variants", nargs="+", default=VARIANTS)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    print(f"batch {args.batch}, width {args.width}, float32, forward and backward")
    print(f"{'similarities held':<20}{'loss':>12}{'seconds':>10}{'MiB':>10}")
    for variant in args.variants:
        results = context.SimpleQueue()
        arguments = (variant, args.batch, args.width, args.threads, args.repeats, results)
        process = context.Process(target=measure, args=arguments)
        process.start()
        loss, seconds, mib = results.get()
        process.join()
        name = f"{variant} rows" if variant.isdigit() else variant
        print(f"{name:<20}{loss:>12.6f}{seconds:>10.3f}{mib:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
