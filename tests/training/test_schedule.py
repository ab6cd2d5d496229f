import pytest

from yolo9k.config.schema import ScheduleConfig, TrainConfig
from yolo9k.errors import ConfigError
from yolo9k.training.schedule import learning_rate
from yolo9k.training.stages import Stage


def lr_at(step, total=100, steps_per_epoch=10.0, *, warmup=0, **schedule):
    config = TrainConfig(lr=0.1, warmup=warmup, schedule=ScheduleConfig(**schedule))
    return learning_rate(step, total, steps_per_epoch, config)


def test_warmup_rises_with_the_fourth_power():
    # Darknet: lr * (step / burn_in) ** 4, and the full rate from step `burn_in` on
    lrs = [lr_at(step, warmup=4, policy="constant") for step in (1, 2, 3, 4, 5)]
    assert lrs == pytest.approx([0.1 / 256, 0.1 / 16, 0.1 * 81 / 256, 0.1, 0.1])


def test_warmup_uses_the_power_of_the_config():
    config = TrainConfig(lr=0.1, warmup=4, warmup_power=1, schedule=ScheduleConfig(policy="constant"))
    assert learning_rate(1, 100, 10, config) == pytest.approx(0.025)


def test_the_schedule_counts_the_warmup_steps():
    assert lr_at(50, warmup=20, policy="cosine") == lr_at(50, policy="cosine")


@pytest.mark.parametrize(("step", "expected"), [(39, 0.1), (40, 0.01), (59, 0.01), (60, 0.002)])
def test_steps_scale_from_their_step_on(step, expected):
    assert lr_at(step, policy="steps", at=[40, 60], scales=[0.1, 0.2]) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(24, 0.1), (25, 0.01), (49, 0.01), (50, 0.001)])
def test_steps_may_count_epochs(step, expected):
    lr = lr_at(step, steps_per_epoch=12.5, policy="steps", at=[2, 4], scales=[0.1, 0.1], unit="epoch")
    assert lr == pytest.approx(expected)


def test_poly_falls_to_zero():
    lrs = [lr_at(step, policy="poly", power=2) for step in (50, 90, 100, 101)]
    assert lrs == pytest.approx([0.1 * 0.25, 0.1 * 0.01, 0, 0])


def test_cosine_starts_at_the_full_rate_and_ends_at_its_final_fraction():
    assert lr_at(1, total=10**9, policy="cosine", final=0.02) == pytest.approx(0.1)
    assert lr_at(50, policy="cosine", final=0.02) == pytest.approx(0.1 * 0.51)  # half-way between 1 and .02
    assert lr_at(100, policy="cosine", final=0.02) == pytest.approx(0.002)
    assert lr_at(150, policy="cosine", final=0.02) == pytest.approx(0.002)  # constant after the end


def test_constant():
    assert {lr_at(step, policy="constant") for step in (1, 50, 100)} == {0.1}


@pytest.mark.parametrize(
    "schedule",
    [
        {"policy": "exp", "gamma": 1e308},
        {"policy": "exp", "gamma": -1},
        {"policy": "steps", "at": [0, 1], "scales": [1e308, 1e308]},
    ],
)
def test_a_learning_rate_that_no_training_can_use(schedule):
    with pytest.raises(ConfigError, match=r"train\.schedule: the learning rate of step 3 would be "):
        lr_at(3, **schedule)


@pytest.mark.parametrize(
    "schedule",
    [
        {"policy": "exp", "gamma": 1.001},
        {"policy": "step", "gamma": 10, "every": 1000},
        {"policy": "steps", "at": [150, 160], "scales": [1e10, 1e-10], "unit": "epoch"},
    ],
)
def test_all_steps_are_checked_before_the_first(schedule):
    train = TrainConfig(lr=0.001, warmup=10, schedule=ScheduleConfig(**schedule))
    with pytest.raises(ConfigError, match=r"train\.schedule: the learning rate of step \d+ would be "):
        Stage(0, 40_000, train, ((416, 416),)).check_schedule(100.0)
    Stage(0, 4000, train, ((416, 416),)).check_schedule(100.0)


def test_a_single_impossible_step_is_found():
    schedule = ScheduleConfig(policy="steps", at=[10, 11], scales=[1e10, 1e-10])
    with pytest.raises(ConfigError, match=r"train\.schedule: the learning rate of step 10 would be "):
        Stage(0, 100, TrainConfig(lr=0.001, warmup=0, schedule=schedule), ((416, 416),)).check_schedule(1.0)
