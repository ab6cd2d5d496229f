from collections import Counter
from itertools import chain

import pytest

from yolo9k.datasets.sampler import StepSampler, picture_generator, size_of_step

SIZES = tuple((side, side) for side in range(320, 640, 32))


def sampler(first=0, last=10, **changes):
    given = {"num_pictures": 7, "batch": 4, "accumulate": 1, "sizes": SIZES, "size_period": 3, "seed": 5}
    return StepSampler(**given | changes, first=first, last=last)


def requests(found):
    return list(chain.from_iterable(found))


@pytest.mark.parametrize("batch", [1, 4, 7, 20])
def test_each_picture_comes_once_an_epoch(batch):
    order = [r.index for r in requests(sampler(last=70 // batch + 1, batch=batch))]
    epochs = [order[start : start + 7] for start in range(0, 70, 7)]
    assert all(Counter(epoch) == Counter(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5


def test_a_resumed_run_goes_on_with_the_same():
    assert list(sampler(0, 10)) == list(sampler(0, 4)) + list(sampler(4, 10))
    late = sampler()
    late.step(9)
    assert late.step(2) == sampler().step(2)  # whatever was asked before
    assert sampler(0, 10, seed=6).step(3) != sampler().step(3)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_any_split_into_parts_gives_the_same_requests(accumulate):
    split = sampler(accumulate=accumulate)
    assert requests(split) == requests(sampler())
    assert {len(part) for part in split} == {4 // accumulate}
    assert len(split) == len(list(split)) == 10 * accumulate


def test_positions_and_steps():
    assert [(r.step, r.position) for r in sampler().step(6)] == [(6, 0), (6, 1), (6, 2), (6, 3)]


def test_a_new_size_every_period():
    sizes = [{r.size_wh for r in sampler().step(step)} for step in range(90)]
    assert all(len(found) == 1 for found in sizes)
    by_period = [set.union(*sizes[start : start + 3]) for start in range(0, 90, 3)]
    assert all(len(found) == 1 for found in by_period)
    assert len(set.union(*by_period)) > 6
    assert set.union(*by_period) <= set(SIZES)


def test_one_size_is_no_choice():
    assert {size_of_step(step, [(416, 320)], 1, 0) for step in range(9)} == {(416, 320)}


def test_pictures_have_random_numbers_of_their_own():
    first = {picture_generator(*key).random() for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)]}
    assert len(first) == 4


def test_a_batch_larger_than_the_data_set():
    assert Counter(r.index for r in sampler(num_pictures=1, batch=3).step(0)) == {0: 3}
