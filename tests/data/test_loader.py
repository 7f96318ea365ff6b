"""The training stream resumes anywhere, on any layout, with the same bytes."""

import hashlib
import multiprocessing
import random
from itertools import islice

import numpy as np
import pytest
import torch
import torchvision.transforms.v2 as v2
from torch import nn

from mmfound.data import BlockShuffle, FullShuffle, RandomCaption, RandomResizedCrop, TrainLoader
from mmfound.data.bad import BadReads
from mmfound.data.reader import Prepare, StreamReader
from mmfound.data.sampler import BatchPlan, PassSampler, ShareSampler
from mmfound.data.stream import Passes
from mmfound.data.workers import Workers
from mmfound.errors import ConfigError, DataError
from tests.data.pictures import Pictures
from tests.data.words import Lengths

COUNT, BATCH = 45, 8  # five batches a pass, five samples left out


class Jitter(nn.Module):
    """Draws from Python's and numpy's generators, as other libraries' transforms do."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.tensor([random.randrange(9) + np.random.randint(9)], dtype=torch.uint8)


def loader(
    plan: BatchPlan | None = None,
    *,
    workers: Workers | None = None,
    source: Pictures | None = None,
    order=None,
    seed: int = 3,
    max_bad: float = 0.01,
    batch: int = BATCH,
    together: int = 1,
) -> TrainLoader:
    plan = plan or BatchPlan(batch, batch)
    source, order = source or Pictures(COUNT), order or BlockShuffle(4, window=3)
    image = nn.Sequential(RandomResizedCrop(16, scale=(0.3, 1.0)), v2.RandomHorizontalFlip(), Jitter())
    return TrainLoader(
        StreamReader(Prepare(image, RandomCaption()), Lengths(), [source], seed),
        Passes(order.arrange(source.stretches(), seed), plan.global_batch_size),
        plan,
        workers=workers or Workers(0),
        bad=BadReads(max_bad),
        identity={"seed": seed, "order": repr(order), "source": source.fingerprint()},
        together=together,
    )


def endless(loader: TrainLoader):
    while True:
        yield from loader


def digest(batch: dict) -> str:
    parts = [batch[name].numpy().tobytes() for name in ("image", "tokens", "token_mask", "text_id", "label")]
    return hashlib.sha256(b"".join(parts) + repr(batch["key"]).encode()).hexdigest()


def digests(loader: TrainLoader, batches: int) -> list[str]:
    return [digest(batch) for batch in islice(endless(loader), batches)]


@pytest.fixture(scope="module")
def unbroken() -> list[str]:
    return digests(loader(), 12)


def test_a_pass_has_a_fixed_length_and_rolls_over(unbroken):
    train = loader()
    assert len(train) == 5
    keys = [[key for batch in train for key in batch["key"]] for _ in range(2)]
    assert train.position == 80
    assert len(train) == 5
    for one_pass in keys:
        assert len(set(one_pass)) == len(one_pass) == 40
    assert keys[0] != keys[1]
    assert len(set(unbroken)) == 12


@pytest.mark.parametrize(("count", "start_method"), [(1, "fork"), (2, "fork"), (2, "forkserver")])
def test_workers_change_no_byte(unbroken, count, start_method):
    assert digests(loader(workers=Workers(count, start_method)), 7) == unbroken[:7]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 3, 5, 8])
def test_resuming_equals_going_on(unbroken, stop, workers):
    first = loader(workers=Workers(workers, "fork"))
    digests(first, stop)
    resumed = loader(workers=Workers(workers, "fork"))
    resumed.load_state_dict(first.state_dict())
    assert resumed.position == stop * BATCH
    assert digests(resumed, 12 - stop) == unbroken[stop:]


def test_a_broken_off_pass_is_taken_up_where_it_was_left(unbroken):
    train = loader(workers=Workers(2, "fork"))
    assert [digest(batch) for batch in islice(train, 2)] == unbroken[:2]
    assert [digest(batch) for batch in train] == unbroken[2:5]


@pytest.mark.parametrize(("world", "micro"), [(1, 8), (1, 2), (2, 4), (2, 2), (4, 1)])
def test_ranks_and_micro_batches_change_no_byte_of_the_global_batch(world, micro):
    whole = list(islice(endless(loader()), 7))
    accumulation = BATCH // (world * micro)
    ranks = [endless(loader(BatchPlan(BATCH, micro, rank, world))) for rank in range(world)]
    for batch in whole:
        parts = [next(ranks[rank]) for _ in range(accumulation) for rank in range(world)]
        assert [key for part in parts for key in part["key"]] == batch["key"]
        assert torch.equal(torch.cat([part["image"] for part in parts]), batch["image"])
        assert torch.equal(torch.cat([part["text_id"] for part in parts]), batch["text_id"])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_micro_batches_are_handed_out_together_as_the_whole_share(workers):
    whole = list(islice(endless(loader()), 7))
    train = loader(BatchPlan(BATCH, 1), together=8, workers=Workers(workers, "fork", prefetch=3))  # up to six parts
    assert len(train) == 5
    for number, (batch, expected) in enumerate(zip(endless(train), whole, strict=False), start=1):
        assert train.position == number * BATCH
        assert batch.keys() == expected.keys()
        assert batch["key"] == expected["key"]
        assert batch["image"].is_contiguous(memory_format=torch.channels_last)
        assert all(torch.equal(batch[name], expected[name]) for name in batch if name != "key")
        assert not batch["image"].is_shared()  # copied from where the workers put its parts
    train.close()


def test_a_batch_is_made_in_as_many_parts_as_the_workers_make_ahead():
    train = loader(BatchPlan(BATCH, 1), together=8, workers=Workers(2, "fork", prefetch=3))
    assert train._groups == [1, 1, 2, 1, 1, 2]
    assert loader(BatchPlan(BATCH, 1), together=8)._groups == [8]
    assert loader(BatchPlan(BATCH, 1), workers=Workers(2, "fork"))._groups == [1]


def test_ranks_take_their_chunks_in_turn():
    whole = next(iter(loader()))
    ranks = [next(iter(loader(BatchPlan(BATCH, 2, rank, 2), together=2))) for rank in (0, 1)]
    key = whole["key"]
    assert [part["key"] for part in ranks] == [key[0:2] + key[4:6], key[2:4] + key[6:8]]


def test_a_state_resumes_on_another_number_of_ranks():
    first = loader(BatchPlan(BATCH, 2, 1, 2))
    list(islice(endless(first), 6))  # three steps of two micro-batches
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    assert digests(resumed, 2) == digests(loader(), 5)[3:]


def test_inside_an_accumulation_that_cannot_be_cut_the_step_is_repeated():
    first = loader(BatchPlan(BATCH, 2))
    list(islice(first, 5))
    assert first.position == 10
    resumed = loader()
    resumed.load_state_dict(first.state_dict())
    assert resumed.position == 8


def test_another_batch_size_goes_on_in_the_same_pass_and_repeats_no_whole_batch():
    first = loader()
    seen = [key for batch in islice(first, 3) for key in batch["key"]]
    resumed = loader(batch=6)
    with pytest.warns(UserWarning, match="was 8 and is now 6"):
        resumed.load_state_dict(first.state_dict())
    rest = [key for batch in resumed for key in batch["key"]]
    assert set(seen).isdisjoint(rest)
    assert len(rest) == 42 - 24


def test_changed_data_seed_or_order_is_refused_by_name():
    state = loader().state_dict()
    with pytest.raises(DataError, match="source has changed .*Pictures:45 to Pictures:46"):
        loader(source=Pictures(COUNT + 1)).load_state_dict(state)
    with pytest.raises(ConfigError, match="seed has changed .*from 3 to 4"):
        loader(seed=4).load_state_dict(state)
    with pytest.raises(ConfigError, match="order has changed"):
        loader(order=FullShuffle()).load_state_dict(state)


def test_a_batch_larger_than_the_data_is_refused_with_both_numbers():
    with pytest.raises(ConfigError, match=r"global_batch_size is 46, but .* 45 samples"):
        loader(batch=46)


def test_batches_draw_nothing_from_the_global_generators():
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    expected = torch.rand(3).tolist(), random.random(), np.random.rand()
    torch.manual_seed(1), random.seed(1), np.random.seed(1)
    for workers in (0, 2):
        digests(loader(workers=Workers(workers, "fork")), 2)
    assert (torch.rand(3).tolist(), random.random(), np.random.rand()) == expected


def test_samples_change_their_augmentation_with_the_epoch():
    train = loader(batch=COUNT)
    first, second = (
        {key: image for key, image in zip(b["key"], b["image"], strict=True)} for b in islice(endless(train), 2)
    )
    assert sum(torch.equal(first[key], second[key]) for key in first) < 3


def test_bad_samples_are_replaced_alike_everywhere_and_counted():
    source = Pictures(COUNT, bad=9)
    train = loader(source=source, max_bad=1.0)
    with pytest.warns(UserWarning, match="broken on purpose"):
        made = digests(train, 10)
    assert train.bad.total >= 8
    assert train.bad.read == 80
    with pytest.warns(UserWarning, match="broken on purpose"):
        assert digests(loader(source=source, max_bad=1.0, workers=Workers(2, "fork")), 10) == made


def test_good_samples_stay_in_their_places_beside_bad_ones():
    with pytest.warns(UserWarning, match="broken on purpose"):
        batches = list(loader(source=Pictures(COUNT, bad=9), max_bad=1.0))
    for with_bad, without in zip(batches, loader(), strict=True):
        for row, key in enumerate(without["key"]):
            if int(key[1:]) % 9:
                assert with_bad["key"][row] == key
                assert torch.equal(with_bad["image"][row], without["image"][row])


def test_too_many_bad_samples_stop_the_run():
    train = loader(source=Pictures(COUNT, bad=9), max_bad=0.05)
    with (
        pytest.warns(UserWarning, match="Bad sample"),
        pytest.raises(DataError, match=r"of \d+ samples .* more than max_bad_fraction 0.05"),
    ):
        digests(train, 30)
    assert train.bad.read > 80  # not on the first one


@pytest.mark.parametrize("workers", [0, 1])
def test_nothing_but_bad_samples_stops_at_once_with_a_plain_message(workers):
    train = loader(source=Pictures(COUNT, bad=1), workers=Workers(workers, "fork"))
    with pytest.raises(DataError) as caught:
        next(iter(train))
    assert str(caught.value).startswith("8 samples of Pictures in a row could not be read")


def test_plans_that_do_not_divide_name_those_that_do():
    says = "100, which 3 processes cannot share; use 99 or 102, or one of .1, 2, 4, 5. processes"
    with pytest.raises(ConfigError, match=says):
        BatchPlan.checked(100, None, 0, 3)
    with pytest.raises(ConfigError, match=r"micro_batch_size is 5, .* use one of \[1, 2, 3, 4, 6, 12\]"):
        BatchPlan.checked(24, 5, 0, 2)
    assert BatchPlan.checked(24, None, 0, 2).micro_batch_size == 12
    assert BatchPlan.checked(24, 4, 0, 2).accumulation == 3


@pytest.mark.parametrize(("samples", "world"), [(23, 1), (23, 2), (23, 3), (4, 4), (8, 2)])
def test_ranks_share_an_evaluation_pass_in_equal_batches(samples, world):
    ranks = [list(PassSampler(samples, BatchPlan(4 * world, 4, rank, world))) for rank in range(world)]
    assert len(ranks[0]) == len(PassSampler(samples, BatchPlan(4 * world, 4, 0, world)))
    for parts in zip(*ranks, strict=True):
        assert len({len(part) for part in parts}) == 1
    indices = [index for parts in zip(*ranks, strict=True) for part in parts for index in part[:, 2].tolist()]
    assert indices == list(range(samples - samples % world))


def test_ranks_share_a_list_without_duplicates():
    shares = [np.concatenate(list(ShareSampler(23, 4, rank, 3))) for rank in range(3)]
    assert sorted(np.concatenate(shares).tolist()) == list(range(23))
    assert shares[1].tolist() == list(range(1, 23, 3))


def test_waiting_is_measured():
    train = loader()
    digests(train, 3)
    assert train.first_batch_s is not None
    assert 0 < train.waited_s < 5


def test_closing_ends_the_workers(unbroken):
    before = set(multiprocessing.active_children())
    train = loader(workers=Workers(2, "fork"))
    assert digests(train, 2) == unbroken[:2]
    started = set(multiprocessing.active_children()) - before
    assert len(started) == 2
    train.close()
    assert not any(worker.is_alive() for worker in started)
    assert digests(train, 1) == unbroken[2:3]
