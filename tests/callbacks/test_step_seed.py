import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from mmfound.callbacks import StepSeed
from mmfound.callbacks.step_seed import mixed
from tests.callbacks.fakes import IGNORED, Data, NoisyTask, make_trainer

pytestmark = IGNORED


def trainer_of(rank: int, world: int, position: int | None = None) -> Any:
    loader = SimpleNamespace(train_loader=SimpleNamespace(position=position)) if position is not None else None
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    return SimpleNamespace(world_size=world, global_rank=rank, strategy=strategy, datamodule=loader)


def draws(callback: StepSeed, rank: int, world: int, rows: int, position: int | None = None) -> tuple[float, ...]:
    trainer = trainer_of(rank, world, position)
    callback.on_train_batch_start(trainer, nn.Module(), {"key": ["k"] * rows}, 0)  # pyright: ignore
    return torch.rand(()).item(), float(np.random.rand()), random.random()


def test_two_ranks_draw_what_one_rank_draws_in_twice_the_micro_batches():
    alone = StepSeed(3)
    expected = [draws(alone, 0, 1, rows=8) for _ in range(6)]
    ranks = [StepSeed(3), StepSeed(3)]
    assert [draws(ranks[r], r, 2, rows=8) for _ in range(3) for r in range(2)] == expected
    assert len(set(expected)) == 6


def test_a_loader_that_knows_its_position_says_which_batch_it_is():
    counted = StepSeed(3)
    draws(counted, 0, 1, rows=8)
    assert draws(counted, 0, 1, rows=8) == draws(StepSeed(3), 0, 1, rows=8, position=16)


class Chunked(nn.Module):
    """A task that encodes four samples at a time."""

    chunk_size, chunk_seeds = 4, ()


def test_chunks_have_the_seeds_of_micro_batches_on_as_many_ranks():
    def seeds(rank: int, world: int, rows: int) -> list[int]:
        task, trainer = Chunked(), trainer_of(rank, world)
        callback = StepSeed(3)
        for _ in range(2):
            callback.on_train_batch_start(trainer, task, {"key": ["k"] * rows}, 0)  # pyright: ignore
            found = list(task.chunk_seeds)
            callback.on_train_batch_end(trainer, task, None, None, 0)  # pyright: ignore
            assert task.chunk_seeds == ()
        return found

    alone = seeds(0, 1, rows=16)
    assert len(set(alone)) == 4
    assert [seeds(rank, 4, rows=4)[0] for rank in range(4)] == alone  # pyright: ignore
    assert [seeds(0, 2, rows=8), seeds(1, 2, rows=8)] == [alone[0::2], alone[1::2]]


class Placed(nn.Module):
    """A task that wants to know its place in the global batch."""

    place = None


def test_a_task_is_told_its_place_in_the_global_batch():
    def places(rank: int, world: int, count: int) -> list[Any]:
        task, callback, found = Placed(), StepSeed(3), []
        for number in range(count):
            trainer = trainer_of(rank, world, position=16 + (number + 1) * 4 * world)
            trainer.datamodule.global_batch_size = 8
            callback.on_train_batch_start(trainer, task, {"key": ["k"] * 4}, 0)  # pyright: ignore
            found.append(task.place)
        return found

    alone = places(0, 1, count=4)
    assert alone == [(0, 8, 2), (4, 8, 2), (0, 8, 3), (4, 8, 3)]
    assert [places(0, 2, count=2), places(1, 2, count=2)] == [alone[0::2], alone[1::2]]


def test_a_position_counted_in_other_batches_makes_a_batch_by_itself():
    task, callback = Placed(), StepSeed(3)
    for rows, position, whole, place in ((12, 44, 48, (0, 12)), (4, 2 + 4, 8, (0, 4)), (3, 13, 8, (0, 3))):
        trainer = trainer_of(0, 1, position=position)
        trainer.datamodule.global_batch_size = whole
        callback.on_train_batch_start(trainer, task, {"key": ["k"] * rows}, 0)  # pyright: ignore
        assert task.place is not None
        assert task.place[:2] == (place[0], rows)


def test_another_seed_draws_otherwise():
    assert draws(StepSeed(3), 0, 1, 8) != draws(StepSeed(4), 0, 1, 8)


def test_the_hash_is_the_same_in_every_process():
    assert mixed(0) == 16294208416658607535  # the first number of splitmix64 seeded with 0
    assert len({mixed(a, b, c) for a in range(8) for b in range(2) for c in range(64)}) == 8 * 2 * 64


def test_a_resumed_run_draws_what_the_unbroken_run_draws(tmp_path: Path):
    def run(steps: int, checkpoint: Path | None = None) -> tuple[list[float], Path]:
        module = NoisyTask(nn.Linear(3, 1))
        trainer = make_trainer(tmp_path, [StepSeed(7)], max_steps=steps, val_check_interval=2)
        trainer.fit(module, datamodule=Data(val=True), ckpt_path=checkpoint)
        path = tmp_path / f"{steps}.ckpt"
        trainer.save_checkpoint(path)
        return module.drawn, path

    unbroken, _ = run(6)
    _, saved = run(3)
    torch.manual_seed(99)
    assert run(6, saved)[0] == unbroken[3:]
