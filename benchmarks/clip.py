"""A training step and an evaluation of CLIP, side by side with open_clip: same weights, batch, precision and optimiser.

    pip install 'mmfound[pretrained]' && OMP_NUM_THREADS=1 python benchmarks/clip.py

Batches are in memory as each project's loader leaves them: open_clip's normalised float32 pictures and 77 token ids a
caption, our uint8 pictures and captions cut to the longest of the batch. Both start from the same weights, and the
command fails unless losses agree in every round. Rounds of the two are interleaved in one process; x is the median over
rounds of the ratio within a round. On the CPU seconds are CPU-seconds of the process. Peak memory is that of the
second step in a process of its own, weights, moments and imports included.
"""

import argparse
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmfound.batch import image_float
from mmfound.data import TarShards
from mmfound.interop.openai import from_openai
from mmfound.models import DualEncoder, TextTransformer, TimmTower
from mmfound.nn.pixels import NormalizePixels
from mmfound.optim import Optim, WarmupCosine
from mmfound.tasks import Contrastive
from mmfound.text import ClipBpe

CONTEXT, VOCABULARY, END = 77, 49408, 49407
MODELS: dict[str, tuple[str, dict[str, Any]]] = {  # timm's name and options
    "ViT-B-32": ("vit_base_patch32_clip_quickgelu_224", {}),
    "ViT-B-16": ("vit_base_patch16_clip_quickgelu_224", {}),
    "ViT-L-14": ("vit_large_patch14_clip_quickgelu_224", {}),
    "RN50": ("resnet50_clip", {}),
    "small": ("vit_base_patch32_clip_quickgelu_224", {"embed_dim": 128, "depth": 2, "num_heads": 2}),
}
_SMALL = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 128, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 128, "heads": 2, "layers": 2},
}
EMOJI = "../shared/data/emoji_noto/emoji_noto-train-*.tar"


def adamw(groups: Any) -> torch.optim.AdamW:
    """The optimiser of both."""
    fused = torch.cuda.is_available()
    return torch.optim.AdamW(groups, lr=1e-5, betas=(0.9, 0.98), eps=1e-6, weight_decay=0.2, fused=fused)


def config_of(name: str) -> dict[str, Any]:
    """Arguments of open_clip's CLIP."""
    return _SMALL if name == "small" else open_clip.get_model_config(name)


class OpenClip:
    """open_clip's model, loss and step, as its `train_one_epoch` runs them on one process."""

    def __init__(self, name: str, device: str, autocast: Callable[[], AbstractContextManager], compiled: bool) -> None:
        self.model: Any = open_clip.CLIP(**config_of(name), quick_gelu=True).to(device).train()
        decays = [p for p in self.model.parameters() if p.ndim >= 2]
        rest = [p for p in self.model.parameters() if p.ndim < 2]
        self.optimizer = adamw([{"params": decays}, {"params": rest, "weight_decay": 0.0}])
        self.loss, self.autocast, self.device = open_clip.ClipLoss(), autocast, device
        self.run = torch.compile(self.model) if compiled else self.model
        self.normalize = NormalizePixels().to(device)

    def ready(self, image: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What its loader hands out."""
        return self.normalize(image.to(self.device).float().div_(255)), tokens.to(self.device)

    def step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """One optimiser step; gives the loss before it."""
        self.optimizer.zero_grad()
        with self.autocast():
            image, text, scale = self.run(*batch)
            loss = self.loss(image, text, scale)
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.model.logit_scale.clamp_(0, 4.6052)
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Similarities of the pictures to the texts of a batch."""
        with self.autocast():
            image = self.model.encode_image(batch[0], normalize=True)
            text = self.model.encode_text(batch[1], normalize=True)
        return image.float() @ text.float().T


class Ours:
    """The task that recipes name."""

    def __init__(
        self, like: OpenClip, name: str, device: str, autocast: Callable[[], AbstractContextManager], compiled: bool
    ) -> None:
        config = config_of(name)
        text, embed_dim = config["text_cfg"], config["embed_dim"]
        timm_name, options = MODELS[name]
        encoder = DualEncoder(
            TimmTower(timm_name, embed_dim, options=options),
            TextTransformer(VOCABULARY, CONTEXT, text["width"], text["layers"], text["heads"], embed_dim),
        )
        encoder.load_state_dict(from_openai(like.model.state_dict()))
        optim = Optim(adamw, WarmupCosine(0))  # pyright: ignore[reportArgumentType]
        self.task = Contrastive(encoder, optim).to(device).train()
        self.optimizer = adamw(optim.groups(self.task))
        self.autocast, self.device = autocast, device
        self.losses = torch.compile(self.task.compute_losses) if compiled else self.task.compute_losses

    def ready(self, image: Tensor, tokens: Tensor) -> dict[str, Any]:
        """What our loader hands out."""
        length = (tokens == END).int().argmax(dim=1) + 1
        width = -(-int(length.max()) // 8) * 8
        mask = torch.arange(CONTEXT) < length[:, None]
        keys = [str(number) for number in range(len(image))]
        batch = {"image": image, "tokens": tokens[:, :width], "token_mask": mask[:, :width]}
        return {"key": keys, **{name: value.to(self.device).contiguous() for name, value in batch.items()}}

    def step(self, batch: dict[str, Any]) -> Tensor:
        """One optimiser step; gives the loss before it."""
        self.optimizer.zero_grad()
        with self.autocast():
            loss = self.losses(image_float(batch))["loss"]
        loss.backward()
        self.optimizer.step()
        self.task._enforce_bounds()
        return loss.detach()

    @torch.no_grad()
    def evaluate(self, batch: dict[str, Any]) -> Tensor:
        """Similarities of the pictures to the texts of a batch."""
        batch = image_float(batch)
        with self.autocast():
            image = self.task.embed_image(batch["image"])
            text = self.task.embed_text(batch["tokens"], batch["token_mask"])
        return image.float() @ text.float().T


def drawn(longest: int) -> Callable[[int], Tensor]:
    """Captions of random ids with 10 to `longest` tokens, start and end among them; the first has the longest."""

    def captions(batch: int) -> Tensor:
        length = torch.randint(10, longest + 1, (batch, 1))
        length[0] = longest
        place = torch.arange(CONTEXT)
        tokens = torch.randint(1, END - 1, (batch, CONTEXT)).masked_fill(place == 0, END - 1)
        return tokens.masked_fill(place == length - 1, END).masked_fill(place >= length, 0)

    return captions


def emoji() -> Callable[[int], Tensor]:
    """Names of emoji."""
    source, tokenizer = TarShards(EMOJI), ClipBpe()
    texts = [source[row]["captions"][0] for row in range(len(source))]

    def captions(batch: int) -> Tensor:
        found = tokenizer([texts[row] for row in torch.randint(len(texts), (batch,))])
        tokens = found["tokens"] * found["token_mask"]
        return F.pad(tokens, (0, CONTEXT - tokens.shape[1]))

    return captions


def batches(side: int, size: int, captions: Callable[[int], Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless pictures uint8 [B, 3, S, S] and ids [B, 77]."""
    while True:
        image = torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8)
        yield image.to(memory_format=torch.channels_last), captions(size)


def seconds(run: Callable[[], Tensor], device: str) -> tuple[float, Tensor]:
    """Of a call, and what it gives."""
    if device == "cuda":
        torch.cuda.synchronize()
        begun = time.perf_counter()
        found = run()
        torch.cuda.synchronize()
        return time.perf_counter() - begun, found
    begun = time.process_time()
    found = run()
    return time.process_time() - begun, found


def compare(args: argparse.Namespace, name: str, captions: Callable[[int], Tensor]) -> str:
    """A row of the table."""
    torch.manual_seed(0)
    both = pair(args)
    stream = batches(args.image, args.batch, captions)
    tolerance = {"32-true": 2e-3, "bf16-mixed": 3e-2}[args.precision]
    times: dict[str, dict[int, list[float]]] = {"step": {0: [], 1: []}, "evaluation": {0: [], 1: []}}
    for round_ in range(args.rounds + args.warmup):
        image, tokens = next(stream)
        for kind, spent in times.items():
            found = {}
            for which in ((0, 1), (1, 0))[round_ % 2]:
                side = both[which]
                side_batch = side.ready(image, tokens)
                for part in (side.model if which == 0 else side.task,):
                    part.train(kind == "step")
                run = side.step if kind == "step" else side.evaluate
                took, found[which] = seconds(lambda run=run, batch=side_batch: run(batch), args.device)
                if round_ >= args.warmup:
                    spent[which].append(took)
            torch.testing.assert_close(found[1], found[0].to(found[1].dtype), rtol=tolerance, atol=tolerance)
    cells = [row(times[kind], args.batch) for kind in times]
    return f"| {name} | " + " | ".join(cells) + " |"


def pair(args: argparse.Namespace) -> tuple[OpenClip, Ours]:
    """Both, with the same weights."""
    theirs = OpenClip(args.model, args.device, autocast_of(args), args.compile)
    return theirs, Ours(theirs, args.model, args.device, autocast_of(args), args.compile)


def autocast_of(args: argparse.Namespace) -> Callable[[], AbstractContextManager]:
    """The context of a forward pass."""
    if args.precision == "32-true":
        return nullcontext
    return lambda: torch.autocast(args.device, dtype=torch.bfloat16)


def row(spent: dict[int, list[float]], batch: int) -> str:
    """Samples per second of both, and the median ratio with its range."""
    theirs, ours = (batch / statistics.median(spent[which]) for which in (0, 1))
    ratios = [theirs_s / ours_s for theirs_s, ours_s in zip(spent[0], spent[1], strict=True)]
    return f"{theirs:.2f} | {ours:.2f} | {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def peak(which: int, args: argparse.Namespace, results: Any) -> None:
    """Put the peak MiB of two steps in a process of its own."""
    torch.manual_seed(0)
    theirs = OpenClip(args.model, args.device, autocast_of(args), args.compile)
    side: nn.Module | Any = theirs
    if which == 1:
        side = Ours(theirs, args.model, args.device, autocast_of(args), args.compile)
        del theirs
    image, tokens = next(batches(args.image, args.batch, drawn(24)))
    batch = side.ready(image, tokens)
    side.step(batch)  # which makes the optimiser's moments
    begin_peak(args.device)
    side.step(batch)
    results.put(peak_mib(args.device))


def begin_peak(device: str) -> None:
    """Forget the high-water mark."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: str) -> float:
    """Most memory in use since: of the process on the CPU, of the allocator on a GPU."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10  # pyright: ignore


def memory(args: argparse.Namespace) -> str:
    """Peak of both."""
    found = []
    for which in (0, 1):
        context = multiprocessing.get_context("spawn")
        results = context.SimpleQueue()
        process = context.Process(target=peak, args=(which, args, results))
        process.start()
        found.append(results.get())
        process.join()
    return f"peak of a step, captions to 24: open_clip {found[0]:.0f} MiB, ours {found[1]:.0f} MiB"


def main() -> None:
    """Print a row per length of the captions, then peak memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-32", choices=MODELS)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--image", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--captions", nargs="+", default=["16", "24", "32", "77", "emoji"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--no_memory", action="store_true")
    args = parser.parse_args()
    print(f"{args.model}, batch {args.batch}, {args.precision}, {args.device}, compile {args.compile}")
    print("| captions to | open_clip step/s | ours | x | open_clip evaluation/s | ours | x |")
    print("|---" * 7 + "|")
    for name in args.captions:
        if name == "emoji" and not Path(EMOJI).parent.is_dir():
            continue
        print(compare(args, name, emoji() if name == "emoji" else drawn(int(name))), flush=True)
    if not args.no_memory:
        print(memory(args))


if __name__ == "__main__":
    main()
