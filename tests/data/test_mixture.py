"""Mixtures keep their shares, read every source through, and seek."""

import numpy as np
import pytest

from mmfound.data import BlockShuffle, Mixture, Share
from mmfound.errors import ConfigError
from tests.data.pictures import Pictures

ORDER = BlockShuffle(8, window=4)


def weighted(*weights: float, sizes: tuple[int, ...] = (500, 40, 7)) -> Mixture:
    return Mixture([Share(Pictures(size), weight=weight) for size, weight in zip(sizes, weights, strict=False)])


def test_shares_are_exact_in_the_long_run_and_never_off_by_more_than_one_at_the_quotas():
    stream = weighted(0.7, 0.25, 0.0503).stream(ORDER, 0, 16)
    numbers = stream.draws(0, 20_000)[:, 1]
    total = 0.7 + 0.25 + 0.0503
    for stop in range(1000, 20_001, 1000):
        counts = np.bincount(numbers[:stop], minlength=3)
        np.testing.assert_allclose(counts, stop * np.array([0.7, 0.25, 0.0503]) / total, atol=1.0)


def test_tiny_weights_get_their_samples_too():
    numbers = weighted(1.0, 0.0001).stream(ORDER, 0, 16).draws(0, 100_000)[:, 1]
    assert (numbers == 1).sum() == 10


def test_every_source_is_read_through_before_it_repeats():
    draws = weighted(0.7, 0.25, 0.05).stream(ORDER, 0, 16).draws(0, 4000)
    for number, size in enumerate((500, 40, 7)):
        mine = draws[draws[:, 1] == number]
        np.testing.assert_array_equal(mine[:, 0], np.arange(len(mine)) // size)
        for epoch in range(len(mine) // size):
            np.testing.assert_array_equal(np.sort(mine[epoch * size : (epoch + 1) * size, 2]), np.arange(size))


def test_seeking_equals_replaying():
    mixture = weighted(0.7, 0.25, 0.05)
    whole = mixture.stream(ORDER, 5, 16).draws(0, 5000)
    for start, stop in [(4000, 5000), (999, 1001), (0, 3), (2500, 2500)]:
        np.testing.assert_array_equal(mixture.stream(ORDER, 5, 16).draws(start, stop), whole[start:stop])


def test_positions_of_a_trillion_are_exact():
    start = 10**12
    draws = weighted(0.7, 0.3).stream(ORDER, 0, 16).draws(start, start + 2000)
    assert np.bincount(draws[:, 1]).tolist() == [1400, 600]
    assert draws[0, 0] == pytest.approx(0.7e12 / 500, rel=1e-3)


def test_counts_hold_in_every_batch():
    mixture = Mixture([Share(Pictures(100), count=12), Share(Pictures(9), count=4)])
    draws = mixture.stream(ORDER, 0, 16).draws(0, 160)
    for batch in draws.reshape(10, 16, 3):
        assert np.bincount(batch[:, 1]).tolist() == [12, 4]


def test_counts_must_add_up_to_the_batch():
    mixture = Mixture([Share(Pictures(100), count=12), Share(Pictures(9), count=5)])
    with pytest.raises(ConfigError, match=r"add up to 17, but .*global_batch_size is 16"):
        mixture.stream(ORDER, 0, 16)


@pytest.mark.parametrize(
    "shares",
    [
        [],
        [Share(Pictures(3))],
        [Share(Pictures(3), weight=1.0), Share(Pictures(3), count=1)],
        [Share(Pictures(3), weight=1.0, count=1)],
        [Share(Pictures(3), weight=0.0)],
    ],
)
def test_unclear_shares_are_refused(shares):
    with pytest.raises(ConfigError, match="weight"):
        Mixture(shares)


def test_by_index_it_is_the_sources_end_to_end():
    mixture = weighted(1.0, 1.0, sizes=(3, 2))
    assert len(mixture) == 5
    assert [mixture[index]["key"] for index in range(5)] == ["k0", "k1", "k2", "k0", "k1"]
    assert len(list(mixture.captions())) == 10
    assert sum(mixture.stretches()) == 5
    assert mixture.fingerprint() != weighted(1.0, 2.0, sizes=(3, 2)).fingerprint()
