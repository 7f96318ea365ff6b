"""A training step and a guided step of sampling of a U-Net, side by side with diffusers' and with a twin of ours whose
attention is written with einsum: same structure, weights, batch, precision and optimiser.

    pip install 'mmfound[export]' && OMP_NUM_THREADS=1 python benchmarks/diffusion.py

Pictures of 32 pixels, three levels of 64, 128 and 192 channels, two blocks each, attention at factors 2 and 4, tokens
of a two-layer text transformer. The command fails unless losses agree in every round. Rounds are interleaved in one
process; x is the median over rounds of the ratio within a round, above 1 where ours is faster. On the CPU seconds are
CPU-seconds of the process. In sampling all take the null's and the text's half as one batch; the twin encodes texts in
each step, diffusers' and ours are given them. `limit` is what x could be at most if all but convolutions were free, by
the profile of a step of the other. Peak memory is that of the second step in a process of its own, weights, moments and
imports included.
"""

import argparse
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from mmfound.diffusion.conditioning import Condition
from mmfound.interop.diffusers import from_diffusers
from mmfound.models import GlideText, UNet
from mmfound.models.unet_parts import Additive, ByConvolution, Joint, Spatial
from mmfound.nn import unet_attention

NAMES = ("diffusers", "einsum", "ours")
CONTEXT, TOKEN_WIDTH, WIDTH, LEVELS = 32, 128, 64, (1, 2, 3)
_COMMON: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 6,
    "block_out_channels": tuple(WIDTH * level for level in LEVELS),
    "layers_per_block": 2,
    "cross_attention_dim": TOKEN_WIDTH,
}
THEIRS: dict[str, dict[str, Any]] = {
    "adm": {
        "down_block_types": ("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 2),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "up_block_types": (*["SimpleCrossAttnUpBlock2D"] * 2, "ResnetUpsampleBlock2D"),
        "attention_head_dim": 32,
        "class_embed_type": "identity",
        "resnet_time_scale_shift": "scale_shift",
    },
    "ldm": {
        "down_block_types": ("DownBlock2D", *["CrossAttnDownBlock2D"] * 2),
        "up_block_types": (*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"),
        "attention_head_dim": 4,  # the number of heads
        "class_embed_type": "identity",
    },
}
OURS: dict[str, dict[str, Any]] = {
    "adm": {"attention": Joint(TOKEN_WIDTH, head_dim=32)},
    "ldm": {"residual": Additive(), "resample": ByConvolution(), "attention": Spatial(TOKEN_WIDTH, heads=4)},
}
_CONVOLUTIONS = ("aten::convolution_backward", "aten::mkldnn_convolution", "aten::cudnn_convolution", "_slow_conv2d")


def einsum_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention as GLIDE's code has it: scaled on both sides, softmax in float32."""
    scale = query.shape[-1] ** -0.25
    weights = torch.einsum("bkqd,bknd->bkqn", query * scale, key * scale)
    if mask is not None:
        weights = weights.masked_fill(~mask, float("-inf"))
    return torch.einsum("bkqn,bknd->bkqd", weights.float().softmax(dim=-1).to(value.dtype), value)


class Contender:
    """One of the three with its optimiser."""

    def __init__(self, name: str, args: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.name, self.autocast = name, autocast_of(args)
        theirs = UNet2DConditionModel(**_COMMON, **THEIRS[args.style])
        for parameter in theirs.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.05)
        self.network: Any = theirs
        if name != "diffusers":
            self.network = UNet(3, 6, WIDTH, LEVELS, 2, [2, 4], **OURS[args.style])
            self.network.load_state_dict(from_diffusers(theirs.state_dict()))
        self.network.to(args.device)
        self.text = GlideText(512, CONTEXT, TOKEN_WIDTH, 2, 4, 4 * WIDTH).to(args.device)
        fused = args.device == "cuda"
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 1e-5, fused=fused)
        self.run = torch.compile(self.network) if args.compile else self.network

    def output(self, x: Tensor, time_B: Tensor, tokens: Tensor, vector: Tensor) -> Tensor:
        """What the network says."""
        with self.autocast(), attention_of(self.name):
            if self.name == "diffusers":
                return self.run(x, time_B, tokens, class_labels=vector, return_dict=False)[0].float()
            return self.run(x, time_B, Condition(tokens, vector=vector))

    def step(self, batch: dict[str, Tensor]) -> Tensor:
        """One optimiser step; gives the loss before it."""
        self.optimizer.zero_grad()
        out = self.output(batch["x"], batch["time"], batch["hidden"], batch["vector"])
        loss = (out - batch["target"]).square().mean()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def guided(self, batch: dict[str, Tensor]) -> Tensor:
        """One step of sampling; gives the mean square of the guided output."""
        hidden, vector = batch["hidden"], batch["vector"]
        if self.name == "einsum":
            with self.autocast():
                hidden, vector = self.text(batch["tokens"], batch["tokens"] > 0)
        both = [torch.cat([part, part.flip(0)]) for part in (batch["x"], batch["time"], hidden, vector)]
        text, null = self.output(*both).chunk(2)
        return (null + 3 * (text - null)).square().mean()


def attention_of(name: str) -> AbstractContextManager:
    """The twin's attention while it runs."""
    return _Swapped() if name == "einsum" else nullcontext()


class _Swapped:
    def __enter__(self) -> None:
        self.kept, unet_attention._attend = unet_attention._attend, einsum_attention

    def __exit__(self, *_: object) -> None:
        unet_attention._attend = self.kept


def autocast_of(args: argparse.Namespace) -> Callable[[], AbstractContextManager]:
    """The context of a forward pass."""
    if args.precision == "32-true":
        return nullcontext
    return lambda: torch.autocast(args.device, dtype=torch.bfloat16)


def batch_of(args: argparse.Namespace, text: GlideText) -> dict[str, Tensor]:
    """Noised pictures, what they are to give, times, and texts both as ids and encoded."""
    tokens = torch.randint(1, 512, (args.batch, CONTEXT))
    x = torch.randn(args.batch, 3, args.image, args.image)
    batch = {"x": x, "target": torch.randn(args.batch, 6, args.image, args.image), "tokens": tokens}
    batch = {name: value.to(args.device) for name, value in batch.items()}
    batch["time"] = torch.randint(0, 1000, (args.batch,), device=args.device).float()
    with torch.no_grad(), autocast_of(args)():
        batch["hidden"], batch["vector"] = text(batch["tokens"], batch["tokens"] > 0)
    return batch


def seconds(run: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    """Of a call, and what it gives."""
    clock = time.process_time
    if device == "cuda":
        clock = time.perf_counter
        torch.cuda.synchronize()
    begun = clock()
    found = run()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - begun, found


def compare(args: argparse.Namespace) -> None:
    """Print both tables' rows."""
    contenders = {name: Contender(name, args) for name in NAMES}
    tolerance = {"32-true": 2e-3, "bf16-mixed": 5e-2}[args.precision]
    for kind in ("guided", "step"):  # steps drift apart by their rounding, so they come last
        spent: dict[str, list[float]] = {name: [] for name in NAMES}
        for round_ in range(args.rounds + args.warmup):
            batch, found = batch_of(args, contenders["ours"].text), {}
            for name in NAMES[round_ % 3 :] + NAMES[: round_ % 3]:
                run = getattr(contenders[name], kind)
                took, found[name] = seconds(lambda run=run, batch=batch: run(batch), args.device)
                if round_ >= args.warmup:
                    spent[name].append(took)
            for name in NAMES[:2]:
                torch.testing.assert_close(found["ours"], found[name], rtol=tolerance, atol=tolerance)
        limits = {name: limit(contenders[name], args) for name in NAMES[:2]} if kind == "step" else {}
        for name in NAMES[:2]:
            ratios = [theirs / ours for theirs, ours in zip(spent[name], spent["ours"], strict=True)]
            rates = [f"{args.batch / statistics.median(spent[side]):.2f}" for side in (name, "ours")]
            bound = f"{limits[name]:.2f}" if limits else ""
            x = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"| {kind} | {name} | {' | '.join(rates)} | {x} | {bound} |", flush=True)


def limit(contender: Contender, args: argparse.Namespace) -> float:
    """How many times faster a step would be if it were convolutions alone."""
    batch = batch_of(args, contender.text)
    contender.step(batch)
    cuda = args.device == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CUDA if cuda else torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=kinds) as profiled:
        contender.step(batch)
    field = "self_device_time_total" if cuda else "self_cpu_time_total"
    taken = {event.key: getattr(event, field) for event in profiled.key_averages()}
    named = ("conv", "xmma", "cutlass") if cuda else _CONVOLUTIONS
    held = sum(value for key, value in taken.items() if any(part in key for part in named))
    return sum(taken.values()) / held if held else float("nan")


def peak(name: str, args: argparse.Namespace, results: Any) -> None:
    """Put the peak MiB of two steps in a process of its own."""
    contender = Contender(name, args)
    batch = batch_of(args, contender.text)
    contender.step(batch)  # which makes the optimiser's moments
    if args.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        contender.step(batch)
        results.put(torch.cuda.max_memory_allocated() / 2**20)
        return
    Path("/proc/self/clear_refs").write_text("5")
    contender.step(batch)
    results.put(int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10)  # pyright: ignore


def memory(args: argparse.Namespace) -> str:
    """Peak of all three."""
    found = []
    for name in NAMES:
        context = multiprocessing.get_context("spawn")
        results = context.SimpleQueue()
        process = context.Process(target=peak, args=(name, args, results))
        process.start()
        found.append(f"{name} {results.get():.0f} MiB")
        process.join()
    return f"peak of a step: {', '.join(found)}"


def main() -> None:
    """Print a row per contender and kind of step, then peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--style", default="adm", choices=OURS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--image", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no_memory", action="store_true")
    args = parser.parse_args()
    print(f"{args.style}, {args.image} px, batch {args.batch}, {args.precision}, {args.device}, compile {args.compile}")
    print("| step | other | its samples/s | ours | x | limit |")
    print("|---" * 6 + "|")
    compare(args)
    if not args.no_memory:
        print(memory(args))


if __name__ == "__main__":
    main()
