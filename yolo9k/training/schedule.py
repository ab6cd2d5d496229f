"""Learning rate schedules: warm-up, then a policy (Darknet `network.c: get_current_rate`, and cosine)."""

import math

from yolo9k.config.schema import MAX_LR, ScheduleConfig, TrainConfig
from yolo9k.errors import ConfigError


def learning_rate(step: int, total: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """Return the learning rate of step 1, 2, ..., `total`.

    During warm-up it rises as (step / warmup) ** warmup_power. The policy counts from step 1, warm-up included. Raises
    `ConfigError` if the schedule makes it negative or larger than `MAX_LR`.
    """
    if step < config.warmup:
        return config.lr * (step / config.warmup) ** config.warmup_power
    try:
        lr = config.lr * _factor(step, total, steps_per_epoch, config.schedule)
    except OverflowError:
        lr = math.inf
    if not 0 <= lr <= MAX_LR:
        raise ConfigError(
            f"train.schedule: the learning rate of step {step} would be {lr:g}; it must be 0 to {MAX_LR:g}: "
            f"change gamma or scales"
        )
    return lr


def _factor(step: int, total: int, steps_per_epoch: float, schedule: ScheduleConfig) -> float:
    """Return the schedule's factor of `train.lr`."""
    if schedule.policy == "steps":
        unit = steps_per_epoch if schedule.unit == "epoch" else 1.0
        passed = [scale for at, scale in zip(schedule.at, schedule.scales, strict=True) if at * unit <= step]
        return math.prod(passed)
    if schedule.policy == "step":
        return schedule.gamma ** (step // schedule.every)
    if schedule.policy == "exp":
        return schedule.gamma**step
    if schedule.policy == "sigmoid":
        return _sigmoid(step, schedule.gamma, schedule.every)
    progress = min(step / total, 1.0)
    if schedule.policy == "poly":
        return (1 - progress) ** schedule.power
    if schedule.policy == "cosine":
        return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2
    return 1.0


def _sigmoid(step: int, gamma: float, middle: int) -> float:
    """Return Darknet's sigmoid. Before `middle` its unsigned difference wraps: 0, or 1 if gamma is negative."""
    exponent = gamma * ((step - middle) % 2**64)
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))
