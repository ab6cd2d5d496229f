from collections import Counter
from itertools import chain

import numpy as np
import pytest

from yolo9k.datasets.loader.sampler import SampleOrder, StepSampler, augmentation_generator, draw_size, interleave

SIZES = tuple((side, side) for side in range(320, 640, 32))


def sampler(start=0, stop=10, **changes):
    order = SampleOrder([changes.pop("num_images", 7)], changes.pop("seed", 5))
    options = {"order": order, "batch": 4, "accumulate": 1, "sizes": SIZES, "size_period": 3}
    return StepSampler(**options | changes, start=start, stop=stop)


def flattened(batches):
    return list(chain.from_iterable(batches))


@pytest.mark.parametrize("batch", [1, 4, 7, 20])
def test_each_image_comes_once_an_epoch(batch):
    order = [r.index for r in flattened(sampler(stop=70 // batch + 1, batch=batch))]
    epochs = [order[start : start + 7] for start in range(0, 70, 7)]
    assert all(Counter(epoch) == Counter(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 5


def test_a_resumed_run_sees_the_same_images():
    assert list(sampler(0, 10)) == list(sampler(0, 4)) + list(sampler(4, 10))
    used = sampler()
    used.requests(9)
    assert used.requests(2) == sampler().requests(2)  # whatever was requested before
    assert sampler(0, 10, seed=6).requests(3) != sampler().requests(3)


@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_accumulation_does_not_change_the_requests(accumulate):
    split = sampler(accumulate=accumulate)
    assert flattened(split) == flattened(sampler())
    assert {len(micro_batch) for micro_batch in split} == {4 // accumulate}
    assert len(split) == len(list(split)) == 10 * accumulate


def test_positions_and_steps():
    assert [(r.step, r.position) for r in sampler().requests(6)] == [(6, 0), (6, 1), (6, 2), (6, 3)]


def test_a_new_size_every_period():
    sizes = [{r.size_wh for r in sampler().requests(step)} for step in range(90)]
    assert all(len(drawn) == 1 for drawn in sizes)
    by_period = [set.union(*sizes[start : start + 3]) for start in range(0, 90, 3)]
    assert all(len(drawn) == 1 for drawn in by_period)
    assert len(set.union(*by_period)) > 6
    assert set.union(*by_period) <= set(SIZES)


def test_a_single_size_is_used_always():
    assert {draw_size(step, [(416, 320)], 1, 0) for step in range(9)} == {(416, 320)}


def test_each_image_has_its_own_generator():
    first = {augmentation_generator(*key).random() for key in [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (0, 0, 0)]}
    assert len(first) == 4


def test_a_batch_larger_than_the_data_set():
    assert Counter(r.index for r in sampler(num_images=1, batch=3).requests(0)) == {0: 3}


# --- several sources


def first_images(order, count):
    return [order[position] for position in range(count)]


def test_one_source_keeps_the_order_of_earlier_versions():
    """Runs of earlier versions can be resumed: an epoch is numpy's permutation for (seed, 0, epoch)."""
    expected = [(0, int(i)) for epoch in range(4) for i in np.random.default_rng([5, 0, epoch]).permutation(7)]
    assert first_images(SampleOrder([7], seed=5), 28) == first_images(SampleOrder([7], 5, [3]), 28) == expected
    assert [index for _, index in expected[:7]] == [1, 4, 2, 3, 6, 5, 0]


@pytest.mark.parametrize("weights", [(1, 4), (4, 1), (1, 1), (2, 3, 5), (1, 1, 7), (6, 4)])
def test_every_period_has_each_source_as_often_as_its_weight(weights):
    order, period = SampleOrder([9, 5, 3][: len(weights)], 0, weights), sum(weights)
    sources = [source for source, _ in first_images(order, 5 * period)]
    for start in range(0, len(sources), period):
        assert Counter(sources[start : start + period]) == dict(enumerate(weights))


@pytest.mark.parametrize("weights", [(1, 4), (1, 1), (2, 3, 5), (1, 1, 7), (6, 4), (30, 70)])
def test_sources_are_spread_evenly(weights):
    """In any prefix of the order, each source is within one image of its weight."""
    period = interleave(weights) * 3
    for source, weight in enumerate(weights):
        drawn = np.cumsum([each == source for each in period])
        fair = (np.arange(len(period)) + 1) * weight / sum(weights)
        assert np.abs(drawn - fair).max() < 1.01


def test_each_source_has_its_own_epochs():
    drawn = [
        [index for each, index in first_images(SampleOrder([6, 10], 3, [1, 4]), 300) if each == source]
        for source in (0, 1)
    ]
    assert [len(part) for part in drawn] == [60, 240]
    for part, count in zip(drawn, (6, 10), strict=True):
        epochs = [part[start : start + count] for start in range(0, len(part), count)]
        assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) > len(epochs) - 2
    same_size = [
        [i for each, i in first_images(SampleOrder([50, 50], 3, [1, 1]), 100) if each == source] for source in (0, 1)
    ]
    assert same_size[0] != same_size[1]


def test_the_order_of_sources_is_a_function_of_seed_and_step():
    def joint(seed=1):
        return sampler(order=SampleOrder([6, 10], seed, [1, 4]))

    steps = [joint().requests(step) for step in range(10)]
    assert [request.source for request in steps[0]] == interleave([1, 4])[:4]
    used = joint()
    assert [used.requests(step) for step in reversed(range(10))] == steps[::-1]
    assert [joint(2).requests(step) for step in range(10)] != steps


def test_only_one_permutation_per_source_is_kept():
    order = SampleOrder([1000, 2000], 0, [1, 1])
    first_images(order, 9000)
    assert {source: len(indices) for source, (_, indices) in order._permutations.items()} == {0: 1000, 1: 2000}
