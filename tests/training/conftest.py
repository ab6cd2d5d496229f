"""Fixtures: a toy data set and the config of a training run that takes a second."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_data import write_toy

from yolo9k.config import Config, DatasetConfig, load_config, updated, with_overrides

TINY = (
    "model.name=yolov2-tiny", "model.width=0.1", "model.anchors=[[0.5,0.5],[1,1]]", "data.size=64", "data.workers=0",
    "train.batch=4", "train.steps=4", "train.warmup=2", "train.lr=0.01", "train.precision=float32",
    "train.device=cpu", "train.log_every=1", "train.eval_every=0", "train.deterministic=true",
)  # fmt: skip


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> DatasetConfig:
    """Six training and three validation images of 64x64 pixels."""
    return write_toy(tmp_path_factory.mktemp("toy"), {"train": 6, "val": 3}, side_px=64)


@pytest.fixture
def tiny(toy: DatasetConfig) -> Callable[..., Config]:
    """`tiny("train.steps=2")` is the config of a tiny detector's run, with overrides."""

    def config(*overrides: str) -> Config:
        return with_overrides(updated(load_config(None, TINY), {"data.dataset": toy}), overrides)

    return config


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return tmp_path / "run"
