"""The table of docs/clip_sizes.md: parameters, FLOPs and memory of every CLIP size.

Run: python benchmarks/clip_sizes.py [--validate]

Models are built from their recipes out of torch's fake tensors, which have shapes and no memory. FLOPs are those of
torch.utils.flop_counter, forward, at batch 1: 2 per multiply-add, of products and convolutions alone. Activations are
the bytes of all tensors that autograd keeps for the backward pass, each storage once, the parameters left out, in the
difference of two batch sizes. With --validate a training step of ViT-B/32 is run on the CPU at two batch sizes and its
memory is set beside the count.
"""

import argparse
import multiprocessing
import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mmfound.models import DualEncoder

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "clip"
NAMES = ("rn50", "rn101", "rn50x4", "rn50x16", "rn50x64", "vit_b32", "vit_b16", "vit_l14", "vit_l14_336")
CONTEXTS = (77, 24)  # CLIP's, and a length that most captions keep below
OPEN_CLIP = {  # GFLOPs of image and text tower, docs/model_profile.csv of open_clip
    "rn50": (12.2, 6.0),
    "rn101": (19.5, 6.0),
    "rn50x4": (42.6, 9.3),
    "rn50x16": (149.4, 13.3),
    "rn50x64": (529, 23.6),
    "vit_b32": (8.8, 6.0),
    "vit_b16": (35.1, 6.0),
    "vit_l14": (162, 13.3),
}
MILLION, GB, MB = 1e6, 2**30, 2**20


@dataclass
class Size:
    """A recipe's model."""

    encoder: DualEncoder
    image_size: int


def build(name: str, device: str) -> Size:
    """The model of a recipe, and the side of its pictures."""
    recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(DualEncoder, "encoder")
    described = {"class_path": "mmfound.models.DualEncoder", "init_args": recipe["model"]["init_args"]["encoder"]}
    with torch.device(device):
        encoder = parser.instantiate(parser.parse_object({"encoder": described})).encoder
    return Size(encoder, recipe["data"]["init_args"]["image_size"])


def fake(name: str) -> Size:
    """`build` of fake tensors on the CPU; within FakeTensorMode. Constructors of timm read numbers off tensors."""
    with unset_fake_temporarily():
        size = build(name, "meta")
    for module in size.encoder.modules():
        for kept in (module._parameters, module._buffers):
            for tensor_name, tensor in kept.items():
                if tensor is not None:
                    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)
                    kept[tensor_name] = nn.Parameter(empty) if isinstance(tensor, nn.Parameter) else empty
    return size


def parameters(module: nn.Module) -> int:
    """Number of them."""
    return sum(parameter.numel() for parameter in module.parameters())


def flops(call: Callable[[], Tensor]) -> int:
    """Of a forward pass."""
    plain = sdpa_kernel(SDPBackend.MATH)  # the counter does not know the CPU's fused attention
    with torch.no_grad(), plain, FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def inputs(size: Size, batch: int, context: int) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, tokens and their mask."""
    image = torch.rand(batch, 3, size.image_size, size.image_size)
    tokens = torch.ones(batch, context, dtype=torch.int64)
    return image, tokens, torch.ones(batch, context, dtype=torch.bool)


def loss(encoder: DualEncoder, image: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Contrastive, as textbooks have it."""
    image_BE, text_BE = encoder.embed_image(image), encoder.embed_text(tokens, mask)
    logits = encoder.logit_scale.exp() * image_BE @ text_BE.T
    target = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def saved_bytes(size: Size, batch: int, context: int, autocast: bool) -> int:
    """Of what autograd keeps for the backward pass, each storage once, without the parameters."""
    own = {parameter.untyped_storage()._cdata for parameter in size.encoder.parameters()}
    kept: dict[int, tuple[int, Tensor]] = {}  # the tensors too, so that no address is used again

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = (storage.nbytes(), tensor)
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        loss(size.encoder, *inputs(size, batch, context))
    return sum(count for count, _ in kept.values())


def per_sample(size: Size, context: int, autocast: bool) -> int:
    """Bytes of activations that one more sample takes."""
    return (saved_bytes(size, 4, context, autocast) - saved_bytes(size, 2, context, autocast)) // 2


def peak_of_step(name: str, batch: int, context: int, results: Any) -> None:
    """Put the peak memory of a training step in float32 that is not the first, in bytes beyond the process's start."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    size = build(name, "cpu")
    optimizer = torch.optim.AdamW(size.encoder.parameters(), lr=1e-4, foreach=False)
    for parameter in size.encoder.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()  # makes its averages
    optimizer.zero_grad()
    loss(size.encoder, *inputs(size, batch, context)).backward()
    optimizer.step()
    results.put((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)


def measured(name: str, batch: int, context: int) -> int:
    """`peak_of_step` in a process of its own."""
    context_of = multiprocessing.get_context("spawn")
    results = context_of.SimpleQueue()
    process = context_of.Process(target=peak_of_step, args=(name, batch, context, results))
    process.start()
    process.join()
    return results.get()


def row(name: str) -> str:
    """A line of the table."""
    size = fake(name)
    image, tokens, mask = inputs(size, 1, CONTEXTS[0])
    encoder = size.encoder
    counts = [parameters(part) / MILLION for part in (encoder.image_tower, encoder.text_tower, encoder)]
    image_flops = flops(partial(encoder.embed_image, image)) / 1e9
    texts = [(tokens[:, :length], mask[:, :length]) for length in CONTEXTS]
    text_flops = [flops(partial(encoder.embed_text, *text)) / 1e9 for text in texts]
    theirs = " / ".join(f"{count:g}" for count in OPEN_CLIP[name]) if name in OPEN_CLIP else "-"
    fixed = 16 * parameters(encoder) / GB  # weight, gradient and AdamW's two averages, float32
    kept = [per_sample(size, CONTEXTS[1], autocast) / MB for autocast in (False, True)]
    cells = [
        f"`clip/{name}`",
        str(size.image_size),
        " / ".join(f"{count:.1f}" for count in counts),
        f"{image_flops:.1f}",
        " / ".join(f"{count:.1f}" for count in text_flops),
        theirs,
        f"{fixed:.2f}",
        " / ".join(f"{count:.0f}" for count in kept),
    ]
    return f"| {' | '.join(cells)} |"


HEAD = """\
| recipe | pixels | M parameters: image / text / all | GFLOPs, image | GFLOPs, text of 77 / 24 tokens | open_clip's \
GFLOPs: image / text of 77 | GB, weights and AdamW | MB of activations per pair: float32 / bf16-mixed |
|---|---|---|---|---|---|---|---|"""


def main() -> None:
    """Print the table, or the validation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--validate", action="store_true", help="run ViT-B/32 on the CPU, too (4 GB)")
    parser.add_argument("--batches", type=int, nargs=2, default=(8, 24))
    options = parser.parse_args()
    print(HEAD)
    with FakeTensorMode():
        for name in NAMES:
            print(row(name), flush=True)
    if options.validate:  # 24 tokens, float32
        small, large = options.batches
        peaks = [measured("vit_b32", batch, CONTEXTS[1]) for batch in (small, large)]
        with FakeTensorMode():
            size = fake("vit_b32")
            counted = per_sample(size, CONTEXTS[1], autocast=False)
        for batch, peak in zip((small, large), peaks, strict=True):
            expected = 16 * parameters(size.encoder) + counted * batch
            print(f"ViT-B/32, batch {batch}: {peak / MB:.0f} MB measured, {expected / MB:.0f} MB counted")


if __name__ == "__main__":
    main()
