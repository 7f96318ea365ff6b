"""Gradients of a batch that is encoded in chunks are those of the whole batch, on ranks and with noise too."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from mmfound.batch import chunks_of
from mmfound.errors import ConfigError
from mmfound.models import ConvTower, DualEncoder, TextTransformer, TimmTower
from mmfound.optim import Constant, Optim
from mmfound.seeding import seed_generators
from mmfound.tasks import Contrastive, Task
from mmfound.tasks.chunks import encode_in_chunks
from tests.ranks import run_on_ranks
from tests.tasks.peak import PeakBytes

G, CONTEXT, VOCABULARY = 24, 24, 40
LENGTHS = [3 + 5 * (i % 4) + 4 * (i >= G // 2) for i in range(G)]  # the second half's texts are longer than the first's


class NoisyText(nn.Module):
    """Drops hidden values of every token, so that the noise depends on the padding."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.tower = TextTransformer(VOCABULARY, CONTEXT, width=32, depth=2, heads=1, embed_dim=16)
        self.tower.blocks[0].register_forward_hook(lambda module, args, out: nn.functional.dropout(out, p))


def contrastive(noise: float = 0.0, dtype: torch.dtype = torch.float64) -> Contrastive:
    torch.manual_seed(0)
    image_tower = TimmTower("test_vit", 16, image_size=32, patch_drop=noise, drop_path=noise)
    optim = Optim(lambda groups: torch.optim.SGD(groups, lr=0.1), Constant())
    return Contrastive(DualEncoder(image_tower, NoisyText(noise).tower), optim).to(dtype)


def batch_of(samples: int, start: int = 0) -> dict[str, Any]:
    """Pairs from `start` on, the same whoever asks; texts padded to the longest of all."""
    draws = torch.Generator().manual_seed(0)
    image = torch.randint(256, (G, 3, 32, 32), generator=draws, dtype=torch.uint8)
    tokens = torch.randint(1, VOCABULARY, (G, CONTEXT), generator=draws)
    token_mask = torch.arange(CONTEXT) < torch.tensor(LENGTHS)[:, None]
    rows = slice(start, start + samples)
    text = {"tokens": (tokens * token_mask)[rows], "token_mask": token_mask[rows]}
    return {"key": [str(i) for i in range(G)][rows], "image": image[rows], **text, "text_id": torch.arange(G)[rows]}


def floats(batch: dict[str, Any]) -> dict[str, Any]:
    return {**batch, "image": batch["image"].float() / 255}


def gradients(task: Contrastive, batch: dict[str, Any]) -> dict[str, Tensor]:
    task.compute_losses(batch)["loss"].backward()
    return named_gradients(task)


def named_gradients(task: nn.Module) -> dict[str, Tensor]:
    named = {name: parameter.grad for name, parameter in task.named_parameters()}
    assert all(gradient is not None for gradient in named.values())
    return {name: gradient for name, gradient in named.items() if gradient is not None}


def assert_equal(one: dict[str, Any], other: dict[str, Any], tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        expected = torch.as_tensor(other[name])
        error = (torch.as_tensor(one[name]) - expected).abs().max() / expected.abs().max()
        assert error < tolerance, (name, error)


@pytest.mark.parametrize("size", [1, 6, 7, 12])
def test_gradients_are_those_of_the_whole_batch_the_temperature_included(size: int):
    whole = gradients(contrastive(), floats(batch_of(G)))
    task = contrastive()
    task.use_chunks(size)
    cached = gradients(task, batch_of(G))
    assert "encoder.logit_scale" in cached
    assert_equal(cached, whole, 1e-12)


def seeded_by_chunk(task: Contrastive, batch: dict[str, Any], size: int, seeds: list[int]) -> dict[str, Tensor]:
    """The whole batch's graph in one, every chunk's noise from its own seed, and no checkpoints."""
    parts = []
    for start, seed in zip(range(0, len(batch["key"]), size), seeds, strict=True):
        seed_generators(seed, torch.device("cpu"))
        width = -(-max(LENGTHS[start : start + size]) // 8) * 8
        chunk = {name: value[start : start + size] for name, value in floats(batch).items()}
        text = (chunk["tokens"][:, :width], chunk["token_mask"][:, :width])
        parts.append((task.embed_image(chunk["image"]), task.embed_text(*text)))
    task.encode = lambda batch: tuple(torch.cat(part) for part in zip(*parts, strict=True))  # pyright: ignore
    return gradients(task, batch)


def test_noise_is_drawn_by_chunk_and_drawn_again_in_the_backward_pass():
    seeds = [11, 22, 33, 44]
    expected = seeded_by_chunk(contrastive(0.3), batch_of(G), 6, seeds)
    task = contrastive(0.3)
    task.use_chunks(6)
    task.chunk_seeds = seeds
    assert_equal(gradients(task, batch_of(G)), expected, 1e-12)
    other = contrastive(0.3)
    other.use_chunks(6)
    other.chunk_seeds = [1, 2, 3, 4]
    with pytest.raises(AssertionError):
        assert_equal(gradients(other, batch_of(G)), expected, 1e-2)


def test_without_seeds_noise_is_the_generators_and_the_backward_pass_repeats_it():
    task = contrastive(0.3)
    task.use_chunks(6)
    torch.manual_seed(5)
    loss = task.compute_losses(batch_of(G))["loss"]
    state = torch.get_rng_state()
    direction = {name: torch.randn_like(parameter) for name, parameter in task.named_parameters()}
    torch.set_rng_state(state)
    loss.backward()
    assert torch.equal(torch.get_rng_state(), state)
    slope = sum(float((p.grad * direction[name]).sum()) for name, p in task.named_parameters())  # pyright: ignore
    losses = []
    for step in (1e-6, -1e-6):
        torch.manual_seed(5)
        moved = {name: p + step * direction[name] for name, p in task.named_parameters()}
        with torch.no_grad():
            losses.append(
                torch.func.functional_call(_Step(task), {f"task.{n}": v for n, v in moved.items()}, batch_of(G))
            )
    assert slope == pytest.approx(float(losses[0] - losses[1]) / 2e-6, rel=1e-4)


def test_weights_under_autocast_add_up_in_float32():
    """A bfloat16 sum of equal parts stays at 256 of them."""
    linear = nn.Linear(1, 1)
    batch = {"key": ["k"] * 1000, "image": torch.ones(1000, 1)}
    with torch.autocast("cpu", torch.bfloat16):
        (out,) = encode_in_chunks(lambda batch: (linear(batch["image"]),), batch, 1)
    out.float().sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.item() == 1000


def test_noise_of_the_backward_pass_is_of_the_forward_passs_dtype():
    drawn = []

    def encode(batch: dict[str, Any]) -> tuple[Tensor]:
        drawn.append(torch.rand(len(batch["key"])))
        return (weight * drawn[-1],)

    torch.set_default_dtype(torch.float64)  # as Lightning does for the forward pass
    try:
        weight = nn.Parameter(torch.ones(()))
        (out_B,) = encode_in_chunks(encode, {"key": ["k"] * 4, "label": torch.zeros(4)}, 2)
    finally:
        torch.set_default_dtype(torch.float32)
    out_B.sum().backward()
    assert [noise.dtype for noise in drawn] == [torch.float64] * 4
    assert torch.equal(torch.cat(drawn[:2]), torch.cat([drawn[3], drawn[2]]))
    assert torch.get_default_dtype() == torch.float32


class _Step(nn.Module):
    """What a strategy wraps."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, batch: dict[str, Any]) -> Tensor:
        return self.task.compute_losses(batch)["loss"]


def _shard(step: _Step) -> nn.Module:
    task: Any = step.task
    for block in [*task.encoder.image_tower.model.blocks, *task.encoder.text_tower.blocks]:
        fully_shard(block)
    return fully_shard(step)


WRAP: dict[str, Callable[[_Step], nn.Module]] = {"ddp": DistributedDataParallel, "fsdp2": _shard}


def ranks_gradients(strategy: str, size: int, seeds: list[int]) -> tuple[int, dict[str, Tensor]]:
    rank, share = dist.get_rank(), G // dist.get_world_size()
    task = contrastive(0.3)
    task.use_chunks(size if size < share else None)
    per_rank = len(seeds) // dist.get_world_size()
    task.chunk_seeds = seeds[rank * per_rank : (rank + 1) * per_rank]
    seed_generators(task.chunk_seeds[0], torch.device("cpu"))
    step, hooks = WRAP[strategy](_Step(task)), []
    next(task.encoder.text_tower.parameters()).register_post_accumulate_grad_hook(lambda p: hooks.append(1))
    batch = batch_of(share, rank * share)
    if size == share:
        batch = floats(chunks_of(batch, share)[0])
    step(batch).backward()
    found = {name: getattr(g, "full_tensor", lambda g=g: g)() for name, g in named_gradients(task).items()}
    return len(hooks), found


@pytest.mark.parametrize(("strategy", "size"), [("ddp", 12), ("ddp", 6), ("fsdp2", 6)])
def test_ranks_have_the_gradients_of_one_rank_and_their_hooks_run_once(strategy: str, size: int):
    seeds = list(range(1, G // size + 1))
    expected = seeded_by_chunk(contrastive(0.3), batch_of(G), size, seeds)
    for hooks, found in run_on_ranks(2, ranks_gradients, strategy, size, seeds):
        assert_equal(found, expected, 1e-12)
        assert hooks == 1


def test_memory_grows_with_the_chunk_and_not_with_the_batch():
    def peak(samples: int, size: int | None) -> int:
        task, batch = contrastive(dtype=torch.float32), batch_of(samples)
        task.use_chunks(size)
        with PeakBytes() as peak:
            gradients(task, batch if size else floats(batch))
        return peak.bytes

    assert peak(24, 3) < 1.1 * peak(12, 3)
    assert peak(24, 3) < 0.5 * peak(24, None)
    assert peak(24, 3) < peak(24, 6) < peak(24, 12) < peak(24, None)


def test_a_batch_of_one_chunk_is_encoded_as_ever():
    task = contrastive()
    task.use_chunks(G)
    task.encode_chunk = lambda batch: (batch, "as it came")  # pyright: ignore
    batch = batch_of(G)
    assert task.encode(batch)[0] is batch


def test_chunks_have_their_own_longest_text():
    widths = [chunk["tokens"].shape[1] for chunk in chunks_of(batch_of(G), 2)]
    assert widths == [-(-max(LENGTHS[at : at + 2]) // 8) * 8 for at in range(0, G, 2)]
    assert len(set(widths)) > 1
    chunks = chunks_of({"key": list("abc"), "image": torch.zeros(3, 1)}, 2)
    assert [chunk["key"] for chunk in chunks] == [["a", "b"], ["c"]]


def test_batch_normalisation_is_refused_by_name_unless_it_is_frozen():
    task = contrastive()
    task.encoder.image_tower = ConvTower(4, 16)
    with pytest.raises(
        ConfigError, match=r"micro_batch_size 4: encoder.image_tower.layers.0.1 \(BatchNorm2d and 4 more"
    ):
        task.use_chunks(4)
    task.use_chunks(None)
    task.encoder.image_tower.eval()
    task.use_chunks(4)
    assert task.chunk_size == 4


def test_a_task_without_an_encode_chunk_is_told_how_to_get_one():
    class Whole(Task):
        whole_batch_loss = True

    with pytest.raises(ConfigError, match=r"Whole cannot .* 4: .* no encode_chunk. Move .* self.encode\(batch\)"):
        Whole(Optim(lambda groups: torch.optim.SGD(groups, lr=0.1), Constant())).use_chunks(4)
