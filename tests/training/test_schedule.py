import pytest

from yolo9k.config.schema import ScheduleConfig, TrainConfig
from yolo9k.training.schedule import learning_rate


def rate(update, total=100, steps_per_epoch=10.0, *, warmup=0, **schedule):
    config = TrainConfig(lr=0.1, warmup=warmup, schedule=ScheduleConfig(**schedule))
    return learning_rate(update, total, steps_per_epoch, config)


def test_burn_in_rises_with_the_fourth_power():
    # Darknet: lr * (update / warmup) ** 4, and the whole rate from update `warmup` on
    found = [rate(update, warmup=4, policy="constant") for update in (1, 2, 3, 4, 5)]
    assert found == pytest.approx([0.1 / 256, 0.1 / 16, 0.1 * 81 / 256, 0.1, 0.1])


def test_burn_in_takes_the_power_of_the_config():
    config = TrainConfig(lr=0.1, warmup=4, warmup_power=1, schedule=ScheduleConfig(policy="constant"))
    assert learning_rate(1, 100, 10, config) == pytest.approx(0.025)


def test_after_the_burn_in_the_schedule_is_where_it_would_be_without():
    assert rate(50, warmup=20, policy="cosine") == rate(50, policy="cosine")


@pytest.mark.parametrize(("update", "expected"), [(39, 0.1), (40, 0.01), (59, 0.01), (60, 0.002)])
def test_steps_scale_from_their_update_on(update, expected):
    assert rate(update, policy="steps", at=[40, 60], scales=[0.1, 0.2]) == pytest.approx(expected)


@pytest.mark.parametrize(("update", "expected"), [(24, 0.1), (25, 0.01), (49, 0.01), (50, 0.001)])
def test_steps_may_count_epochs(update, expected):
    found = rate(update, steps_per_epoch=12.5, policy="steps", at=[2, 4], scales=[0.1, 0.1], unit="epoch")
    assert found == pytest.approx(expected)


def test_poly_falls_to_nothing():
    found = [rate(update, policy="poly", power=2) for update in (50, 90, 100, 101)]
    assert found == pytest.approx([0.1 * 0.25, 0.1 * 0.01, 0, 0])


def test_cosine_starts_at_the_rate_and_ends_at_its_final_share():
    assert rate(1, total=10**9, policy="cosine", final=0.02) == pytest.approx(0.1)
    assert rate(50, policy="cosine", final=0.02) == pytest.approx(0.1 * 0.51)  # half-way between 1 and .02
    assert rate(100, policy="cosine", final=0.02) == pytest.approx(0.002)
    assert rate(150, policy="cosine", final=0.02) == pytest.approx(0.002)  # after the end it does not rise again


def test_constant():
    assert {rate(update, policy="constant") for update in (1, 50, 100)} == {0.1}
