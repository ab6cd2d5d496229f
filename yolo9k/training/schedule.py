"""The learning rate as a function of the update's number (Darknet `network.c: get_current_rate`, and cosine)."""

import math

from yolo9k.config.schema import ScheduleConfig, TrainConfig


def learning_rate(update: int, total: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """The rate of update 1, 2, …, `total`: burn-in first, then the schedule as if it had run from the start."""
    if update < config.warmup:
        return config.lr * (update / config.warmup) ** config.warmup_power
    return config.lr * _factor(update, total, steps_per_epoch, config.schedule)


def _factor(update: int, total: int, steps_per_epoch: float, schedule: ScheduleConfig) -> float:
    if schedule.policy == "steps":
        unit = steps_per_epoch if schedule.unit == "epoch" else 1.0
        passed = [scale for at, scale in zip(schedule.at, schedule.scales, strict=True) if at * unit <= update]
        return math.prod(passed)
    if schedule.policy == "step":
        return schedule.gamma ** (update // schedule.every)
    if schedule.policy == "exp":
        return schedule.gamma**update
    if schedule.policy == "sigmoid":
        return _sigmoid(update, schedule.gamma, schedule.every)
    progress = min(update / total, 1.0)
    if schedule.policy == "poly":
        return (1 - progress) ** schedule.power
    if schedule.policy == "cosine":
        return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2
    return 1.0


def _sigmoid(update: int, gamma: float, middle: int) -> float:
    """Before `middle` Darknet's unsigned difference is huge: the factor is then 0, or 1 for a negative gamma."""
    exponent = gamma * ((update - middle) % 2**64)
    return 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))
