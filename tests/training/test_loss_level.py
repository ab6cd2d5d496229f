import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.training.loss_level import HIGH, LossLevel


def level_after(losses):
    level = LossLevel()
    for loss in losses:
        level.add(loss)
    return level


def test_nothing_is_high_before_the_first_loss():
    assert not LossLevel().is_high(1e30)


def test_a_blown_up_loss_is_high_and_does_not_raise_the_level():
    level = level_after([19.0] * 5)
    assert level.is_high(14_000)
    level.add(14_000)
    assert level.level == pytest.approx(19)


def test_ten_times_the_level_is_not_high_yet():
    level = level_after([1.0])
    assert [level.is_high(loss) for loss in (10.0, 10.01)] == [False, True]


@given(st.lists(st.floats(1, 3), min_size=1, max_size=50), st.floats(1, 3))
def test_usual_noise_is_not_high(losses, loss):
    assert not level_after(losses).is_high(loss)


@given(st.floats(1e-3, 1e3))
def test_the_level_follows_a_falling_loss(start):
    level = level_after([start * 0.97**step for step in range(200)])
    assert level.is_high(start)
    assert not level.is_high(start * 0.97**200)


def test_a_loss_of_zero():
    level = level_after([0.0, 0.0])
    assert math.isfinite(level.level)
    assert not level.is_high(0.0)


def test_the_state_is_restored():
    level, restored = level_after([3.0, 4.0]), LossLevel()
    restored.restore(level.state())
    assert restored.level == level.level
    assert restored.is_high(HIGH * 4)
