"""Orders are permutations, pure in (seed, epoch, place), and mix."""

import pickle
import time

import numpy as np
import pytest

from mmfound.data import BlockShuffle, FullShuffle, Sequential

STRETCHES = [1000, 1, 0, 513, 2048]
ORDERS = [Sequential(), FullShuffle(), BlockShuffle(), BlockShuffle(64, window=5), BlockShuffle(1, window=1)]


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_every_epoch_gives_every_sample_once(order):
    arrangement = order.arrange(STRETCHES, seed=3)
    assert arrangement.length == sum(STRETCHES)
    for epoch in (0, 1, 7):
        indices = arrangement.indices(epoch, 0, arrangement.length)
        assert indices.dtype == np.int64
        np.testing.assert_array_equal(np.sort(indices), np.arange(sum(STRETCHES)))


@pytest.mark.parametrize("order", ORDERS, ids=repr)
def test_any_piece_in_any_order_of_asking_is_that_piece_of_the_whole(order):
    whole = order.arrange(STRETCHES, seed=3).indices(2, 0, sum(STRETCHES))
    fresh = order.arrange(STRETCHES, seed=3)
    for start, stop in [(3000, 3562), (0, 1), (5, 5), (1000, 2500), (64, 128)]:
        np.testing.assert_array_equal(fresh.indices(2, start, stop), whole[start:stop])
    copied = pickle.loads(pickle.dumps(fresh))
    np.testing.assert_array_equal(copied.indices(2, 17, 900), whole[17:900])


@pytest.mark.parametrize("order", [FullShuffle(), BlockShuffle(), BlockShuffle(64, window=5)], ids=repr)
def test_epochs_seeds_and_numbers_of_sources_give_different_orders(order):
    orders = [
        order.arrange(STRETCHES, seed, number).indices(epoch, 0, 200).tolist()
        for seed, number, epoch in [(0, 0, 0), (0, 0, 1), (1, 0, 0), (0, 1, 0)]
    ]
    assert len({tuple(indices) for indices in orders}) == 4


def test_the_order_of_a_seed_never_changes():
    """Recorded: a new version that fails here cannot resume the runs of an older one."""
    assert BlockShuffle(4, window=2).arrange([10, 7], 0).indices(0, 0, 8).tolist() == [5, 8, 7, 9, 6, 4, 12, 14]
    assert FullShuffle().arrange([10, 7], 0).indices(0, 0, 8).tolist() == [3, 5, 9, 6, 11, 16, 7, 8]


@pytest.mark.parametrize("order", [FullShuffle(), BlockShuffle(256, window=64)], ids=repr)
def test_a_shuffled_epoch_is_uncorrelated_with_the_disk(order):
    count = 200_000
    indices = order.arrange([10_000] * 20, seed=0).indices(0, 0, count)
    assert abs(np.corrcoef(indices, np.arange(count))[0, 1]) < 0.1
    batch = indices[50_000:54_096]
    assert len(np.unique(batch // 10_000)) >= 15  # of 20 shards


def test_blocks_are_read_from_few_places():
    """Reads of one window touch `window` blocks of consecutive samples, no more."""
    indices = BlockShuffle(100, window=8).arrange([50_000], seed=0).indices(0, 800, 1600)
    assert len(np.unique(indices // 100)) == 8


def test_seeking_takes_no_longer_far_into_an_epoch():
    arrangement = BlockShuffle().arrange([10_000] * 1000, seed=0)
    arrangement.indices(0, 0, 1)  # the epoch's blocks

    def seconds(start: int) -> float:
        begun = time.process_time()
        arrangement.indices(0, start, start + 256)
        return time.process_time() - begun

    early = min(seconds(start) for start in (100_000, 300_000, 500_000))
    late = min(seconds(start) for start in (9_000_000, 9_300_000, 9_500_000))
    assert late < 5 * early + 0.01


def test_nonsense_options_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        BlockShuffle(0)
