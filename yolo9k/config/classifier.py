"""The schema of classification training configs (YOLO9000 section 3, "Training for classification")."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from yolo9k.config.datasets import DatasetConfig
from yolo9k.config.schema import MAX_LR, BackboneConfig, TrainConfig, check_channels
from yolo9k.config.section import (
    STRIDE,
    Epochs,
    Factor,
    Fraction,
    Positive,
    Section,
    SizeWH,
    Steps,
    Transforms,
    Workers,
    check_size,
)

CROP_SIZE = 256  # input size that `min_crop` and `max_crop` refer to


class ClassifierModelConfig(BackboneConfig):
    """The model of a classifier: a backbone, a 1x1 convolution and global average pooling.

    `name`: `darknet19`, or `tiny`: the backbone of tiny YOLOv2.
    """

    name: Literal["darknet19", "tiny", "darknet"] = "darknet19"


class ClassifierAugmentConfig(Section):
    """Augmentation of a classifier's training images.

    `geometry`: `darknet` stretches by up to `aspect`, scales the shorter side to U(`min_crop`, `max_crop`) pixels,
    rotates by up to `angle` degrees and takes a random crop of the input size, black outside the image; `crop` is the
    random resized crop: a fraction U(`area`) of the image with an aspect ratio changed by up to `aspect`; `none` is the
    centre crop. `min_crop` and `max_crop` are pixels for an input size of 256 and scale with `data.size`, so that one
    config serves all stages. The defaults are those of darknet19.cfg (256 pixels); darknet19_448.cfg (448 to 512 at 448
    pixels) is 256 and 293 here. `hue` is a shift; `aspect`, `saturation` and `exposure` are factors drawn between 1 and
    the value or its inverse, so .75 also reaches 1/.75. `mixup`: parameter of the Beta distribution, 0: off.
    `transforms`: albumentations transforms by name, applied first.
    """

    geometry: Literal["darknet", "crop", "none"] = "darknet"
    min_crop: Annotated[int, Field(ge=1)] = 128
    max_crop: Annotated[int, Field(ge=1)] = 448
    angle: Annotated[float, Field(ge=0, le=180)] = 7.0
    aspect: Factor = 0.75
    area: tuple[Fraction, Fraction] = (0.08, 1.0)
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    saturation: Positive = 0.75
    exposure: Positive = 0.75
    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    mixup: Annotated[float, Field(ge=0)] = 0.0
    transforms: Transforms = ()

    @model_validator(mode="after")
    def _ordered(self) -> "ClassifierAugmentConfig":
        if self.min_crop > self.max_crop:
            raise ValueError(f"max_crop: must be at least min_crop ({self.min_crop}), not {self.max_crop}")
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError(f"area: must be [min, max] above 0, not {list(self.area)}")
        return self

    def crop_sizes(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """Return `min_crop` and `max_crop` in pixels for this input size (its shorter side)."""
        smallest, largest = (round(size * min(size_wh) / CROP_SIZE) for size in (self.min_crop, self.max_crop))
        return smallest, largest


class ClassifierDataConfig(Section):
    """The data set (kind folder or shards), the input size and the loading of images.

    `size`: input size. Evaluation scales the shorter side to it and takes the centre crop (Darknet
    `validate_classifier_single`). `resize` (evaluation and prediction), `channels`, `on_error` and `workers` as for
    detectors.
    """

    dataset: str | DatasetConfig = ""
    size: SizeWH = (224, 224)
    resize: Literal["area", "darknet"] = "area"
    channels: Literal[1, 3] = 3
    augment: ClassifierAugmentConfig = ClassifierAugmentConfig()
    on_error: Literal["stop", "skip"] = "stop"
    workers: Workers = "auto"


class StageConfig(Section):
    """A stage of training with its own size, length, learning rate, ...; other values are those of the run.

    `min_crop` and `max_crop` override `data.augment`.
    """

    size: SizeWH | None = None
    epochs: Epochs | None = None
    steps: Steps | None = None
    lr: Annotated[float, Field(gt=0, le=MAX_LR)] | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    accumulate: Annotated[int, Field(ge=1)] | None = None
    min_crop: Annotated[int, Field(ge=1)] | None = None
    max_crop: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "StageConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps: give only one")
        return self


class ClassifierLossConfig(Section):
    """Cross entropy over the labels. `label_smoothing`: the fraction of the target spread over the sibling group."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ClassifierEvalConfig(Section):
    """Evaluation: split and batch size."""

    split: str = "val"
    batch: Annotated[int, Field(ge=1)] = 64


class ClassifierConfig(Section):
    """The config of a classifier's training, as read by `yolo9k classify train --config`.

    `stages`: run one after another, each with its own warm-up and schedule (YOLO9000: 160 epochs at 224 pixels, then 10
    at 448 with a smaller learning rate). Empty: one stage, as `data` and `train` say.
    """

    task: Literal["classify"]
    model: ClassifierModelConfig = ClassifierModelConfig()
    data: ClassifierDataConfig = ClassifierDataConfig()
    loss: ClassifierLossConfig = ClassifierLossConfig()
    train: TrainConfig = TrainConfig()
    stages: tuple[StageConfig, ...] = ()
    eval: ClassifierEvalConfig = ClassifierEvalConfig()

    @property
    def all_sizes(self) -> tuple[SizeWH, ...]:
        """Return the sizes of training, evaluation and prediction."""
        return tuple(dict.fromkeys((self.data.size, *(stage.size for stage in self.stages if stage.size))))

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ClassifierConfig":
        check_channels(self.data.channels, self.model)
        stride = 1 if self.model.name == "darknet" else STRIDE
        check_size("data.size", self.data.size, stride)
        for index, stage in enumerate(self.stages):
            if stage.size is not None:
                check_size(f"stages.{index}.size", stage.size, stride)
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> "ClassifierConfig":
        batch, augment = self.train.batch, self.data.augment
        if self.train.patience and len(self.stages) > 1:
            raise ValueError("train.patience: must be 0 with several stages")
        for index, stage in enumerate(self.stages):
            accumulate = stage.accumulate or self.train.accumulate
            if batch % accumulate:
                raise ValueError(f"stages.{index}.accumulate: must divide train.batch ({batch}), not {accumulate}")
            min_crop, max_crop = stage.min_crop or augment.min_crop, stage.max_crop or augment.max_crop
            if min_crop > max_crop:
                raise ValueError(f"stages.{index}.max_crop: must be at least min_crop ({min_crop}), not {max_crop}")
        return self

    @model_validator(mode="after")
    def _mixup_has_pairs(self) -> "ClassifierConfig":
        accumulate = max(
            (stage.accumulate or self.train.accumulate for stage in self.stages), default=self.train.accumulate
        )
        if self.data.augment.mixup and self.train.batch == accumulate:
            raise ValueError(
                "data.augment.mixup: mixes the images of a micro-batch, but a micro-batch has one image; "
                "raise train.batch or lower accumulate"
            )
        return self
