"""CPU time, memory and gradient error of contrastive steps whose batch is encoded in chunks.

Run: python benchmarks/large_batch.py [--batch 32768] [--micro 64 256 1024] [--whole 2048] [--threads 1]

The towers are timm's test_vit at 64 pixels and a text Transformer of two blocks, 64 wide. Errors are the relative
distance |g - r| / |r| over all parameters. r is computed in float64 by `two_passes` below, which shares neither the
chunks nor the loss with mmfound; at `--whole`, also by automatic differentiation of the whole batch in one piece.
"""

import argparse
import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmfound.batch import image_float
from mmfound.models import DualEncoder, TextTransformer, TimmTower
from mmfound.optim import Constant, Optim
from mmfound.tasks import Contrastive

PIXELS, VOCABULARY, TOKENS, EMBED = 64, 512, 16, 64


def task(dtype: torch.dtype) -> Contrastive:
    """The same weights in any dtype."""
    torch.manual_seed(0)
    image_tower = TimmTower("test_vit", EMBED, image_size=PIXELS)
    text_tower = TextTransformer(VOCABULARY, TOKENS, width=64, depth=2, heads=1, embed_dim=EMBED)
    optim = Optim(lambda groups: torch.optim.SGD(groups, lr=0.1), Constant())
    return Contrastive(DualEncoder(image_tower, text_tower), optim).to(dtype)


def pairs(samples: int) -> dict[str, Any]:
    """Random pictures and texts of 3 to 16 tokens."""
    torch.manual_seed(1)
    lengths = torch.randint(3, TOKENS + 1, (samples, 1))
    lengths[0] = TOKENS
    return {
        "key": [str(number) for number in range(samples)],
        "image": torch.randint(256, (samples, 3, PIXELS, PIXELS), dtype=torch.uint8),
        "tokens": torch.randint(VOCABULARY, (samples, TOKENS)),
        "token_mask": torch.arange(TOKENS) < lengths,
    }


def step(model: Contrastive, batch: dict[str, Any], micro: int | None) -> None:
    """Forward and backward pass of mmfound, in chunks or in one piece."""
    model.use_chunks(micro)
    model.compute_losses(batch if micro else image_float(batch))["loss"].backward()


def two_passes(model: Contrastive, batch: dict[str, Any], micro: int) -> None:
    """The reference: embeddings without a graph, the loss's gradient written out, then a surrogate loss per slice."""

    def embed(rows: slice) -> tuple[Tensor, Tensor]:
        image = batch["image"][rows].float() / 255
        image = model.encoder.image_tower(image)
        text = model.encoder.text_tower(batch["tokens"][rows], batch["token_mask"][rows])
        return image / image.norm(dim=1, keepdim=True), text / text.norm(dim=1, keepdim=True)

    slices = [slice(start, start + micro) for start in range(0, len(batch["key"]), micro)]
    with torch.no_grad():
        image, text = (torch.cat(part) for part in zip(*map(embed, slices), strict=True))
        scale = float(model.encoder.logit_scale.exp())
        grad_image, grad_text, grad_scale = gradients_of_the_loss(image, text, scale)
    for rows in slices:
        embedded = embed(rows)
        ((embedded[0] * grad_image[rows]).sum() + (embedded[1] * grad_text[rows]).sum()).backward()
    model.encoder.logit_scale.grad = torch.full_like(model.encoder.logit_scale, grad_scale)


def gradients_of_the_loss(image: Tensor, text: Tensor, scale: float) -> tuple[Tensor, Tensor, float]:
    """Of the symmetric cross-entropy, by both sides and by the logarithm of the scale, a thousand rows at a time."""
    samples, blocks = len(image), range(0, len(image), 1024)
    row_sums, column_sums = torch.zeros_like(image[:, :1]), torch.zeros_like(text[:, 0])
    for at in blocks:
        exponentials = (scale * image[at : at + 1024] @ text.T).exp()  # below e^15
        row_sums[at : at + 1024] = exponentials.sum(dim=1, keepdim=True)
        column_sums += exponentials.sum(dim=0)
    grad_image, grad_text, grad_scale = torch.zeros_like(image), torch.zeros_like(text), 0.0
    for at in blocks:
        rows = slice(at, at + 1024)
        logits = scale * image[rows] @ text.T
        exponentials = logits.exp()
        by_logit = exponentials / row_sums[rows] + exponentials / column_sums
        by_logit[torch.arange(len(logits)), torch.arange(at, at + len(logits))] -= 2
        by_logit /= 2 * samples
        grad_image[rows] = scale * by_logit @ text
        grad_text += scale * by_logit.T @ image[rows]
        grad_scale += float((by_logit * logits).sum())
    return grad_image, grad_text, grad_scale


def measure(kind: str, samples: int, micro: int | None, dtype: torch.dtype, threads: int, results: Any) -> None:
    """Put CPU-seconds, peak MiB beyond weights and batch, and the gradients."""
    torch.set_num_threads(threads)
    model, batch = task(dtype), pairs(samples)
    step(task(dtype), {name: value[:4] for name, value in batch.items()}, 2)  # loads kernels
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, start = peak_mib(), time.process_time()
    if kind == "reference":
        two_passes(model, batch, micro or samples)
    else:
        step(model, batch, micro)
    seconds, mib = time.process_time() - start, peak_mib() - before
    gradients = {name: parameter.grad.double().numpy() for name, parameter in model.named_parameters()}  # pyright: ignore
    results.put((seconds, mib, gradients))


def peak_mib() -> float:
    """Most memory of this process since the peak began; on Linux."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10


def in_a_process(*arguments: Any) -> tuple[float, float, dict[str, Tensor]]:
    """`measure`, with a high-water mark of its own."""
    # Blocks above it go back to the system when freed; between the small nodes of the graph, glibc would keep them.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = str(2**16)
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=measure, args=(*arguments, results))
    process.start()
    seconds, mib, gradients = results.get()
    process.join()
    return seconds, mib, {name: torch.from_numpy(gradient) for name, gradient in gradients.items()}


def error(gradients: dict[str, Tensor], reference: dict[str, Tensor]) -> str:
    """Relative distance over the towers, and of the temperature."""
    towers = [name for name in reference if name != "encoder.logit_scale"]
    one, other = (torch.cat([grads[name].flatten() for name in towers]) for grads in (gradients, reference))
    scale, expected = (grads["encoder.logit_scale"] for grads in (gradients, reference))
    return (
        f"{float((one - other).norm() / other.norm()):>12.1e}{float((scale - expected).abs() / expected.abs()):>12.1e}"
    )


def table(samples: int, variants: list[tuple[str, int | None, torch.dtype]], threads: int) -> None:
    """Print a row per way of making the step, each from a process of its own, against the reference."""
    print(
        f"\nbatch {samples}, {threads} thread(s)\n{'step':<34}{'CPU-s':>8}{'MiB':>9}{'towers':>12}{'temperature':>12}"
    )
    seconds, mib, reference = in_a_process("reference", samples, 256, torch.float64, threads)
    print(f"{'two passes, float64 (reference)':<34}{seconds:>8.1f}{mib:>9.0f}", flush=True)
    for kind, micro, dtype in variants:
        seconds, mib, gradients = in_a_process(kind, samples, micro, dtype, threads)
        name = f"{f'micro-batch {micro}' if micro else 'one piece'}, {str(dtype).removeprefix('torch.')}"
        print(f"{name:<34}{seconds:>8.1f}{mib:>9.0f}{error(gradients, reference)}", flush=True)


def main() -> None:
    """A table at the large batch, and one at a batch that fits in one piece."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32768)
    parser.add_argument("--micro", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--whole", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    pieces: list[int | None] = [None, *args.micro]
    dtypes = (torch.float64, torch.float32, torch.bfloat16)
    table(args.whole, [("ours", micro, dtype) for dtype in dtypes for micro in pieces], args.threads)
    table(args.batch, [("ours", micro, torch.float32) for micro in args.micro], args.threads)


if __name__ == "__main__":
    main()
