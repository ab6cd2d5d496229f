"""The learning rate as a function of the update's number (Darknet `network.c: get_current_rate`, and cosine)."""

import math

from yolo9k.config.schema import ScheduleConfig, TrainConfig


def learning_rate(update: int, total: int, steps_per_epoch: float, config: TrainConfig) -> float:
    """The rate of update 1, 2, …, `total`: burn-in first, then the schedule as if it had run from the start."""
    if update < config.burn_in:
        return config.lr * (update / config.burn_in) ** config.burn_in_power
    return config.lr * _factor(update, total, steps_per_epoch, config.schedule)


def _factor(update: int, total: int, steps_per_epoch: float, schedule: ScheduleConfig) -> float:
    if schedule.policy == "steps":
        unit = steps_per_epoch if schedule.unit == "epoch" else 1.0
        passed = [scale for at, scale in zip(schedule.at, schedule.scales, strict=True) if at * unit <= update]
        return math.prod(passed)
    progress = min(update / total, 1.0)
    if schedule.policy == "poly":
        return (1 - progress) ** schedule.power
    if schedule.policy == "cosine":
        return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * progress)) / 2
    return 1.0
