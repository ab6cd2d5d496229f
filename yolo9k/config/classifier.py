"""What the config of a classifier may say (YOLO9000 section 3, "Training for classification")."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from yolo9k.config.datasets import DatasetConfig
from yolo9k.config.schema import BackboneConfig, TrainConfig
from yolo9k.config.section import STRIDE, Fraction, Positive, Section, SizeWH, Transforms, check_size

CROP_SIZE = 256  # pixels of the network that `min_crop` and `max_crop` are meant for


class ClassifierModelConfig(BackboneConfig):
    """The network of a classifier: a backbone, a 1x1 convolution and the average over the image.

    `name`: `darknet19`, or the trunk of tiny YOLOv2.
    """

    name: Literal["darknet19", "tiny", "darknet"] = "darknet19"


class ClassifierAugmentConfig(Section):
    """How training images of a classifier are changed.

    `geometry`: `darknet` stretches by up to `aspect`, scales the shorter side to U(`min_crop`, `max_crop`) pixels,
    rotates by up to `angle` degrees and cuts out what the network sees at random, black where the image ends; `crop`
    stretches U(`area`) of the image, whose aspect is that of the network's input by up to `aspect`; `none` takes the
    middle. `min_crop` and `max_crop` are pixels for a network of 256, and in proportion for another `data.size`: so one
    config serves all stages. The defaults are those of darknet19.cfg, a network of 256; those of darknet19_448.cfg, 448
    to 512 pixels for a network of 448, are 256 and 293 here. `hue` is a shift; `aspect`, `saturation` and `exposure`
    are factors, drawn between 1 and the number, or the inverse of that: .75 reaches to 1/.75, too. `mixup`: the
    parameter of the Beta distribution by which pairs of images and their labels are mixed, 0 is off. `transforms`:
    albumentations transforms by name, applied first.
    """

    geometry: Literal["darknet", "crop", "none"] = "darknet"
    min_crop: Annotated[int, Field(ge=1)] = 128
    max_crop: Annotated[int, Field(ge=1)] = 448
    angle: Annotated[float, Field(ge=0, le=180)] = 7.0
    aspect: Positive = 0.75
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
            raise ValueError(f"max_crop: must be at least min_crop, {self.min_crop}, not {self.max_crop}")
        if not 0 < self.area[0] <= self.area[1]:
            raise ValueError(f"area: two shares above 0, the smaller first, not {list(self.area)}")
        return self

    def crop_sizes(self, size_wh: tuple[int, int]) -> tuple[int, int]:
        """`min_crop` and `max_crop` in pixels for a network of this size, whose shorter side counts."""
        least, most = (round(size * min(size_wh) / CROP_SIZE) for size in (self.min_crop, self.max_crop))
        return least, most


class ClassifierDataConfig(Section):
    """Images on their way into a classifier: a data set of kind folder or shards, whose images have labels.

    `size` of the network's square input. In evaluation the shorter side of an image is scaled to it, and the middle is
    taken (Darknet `validate_classifier_single`). `resize` (in evaluation and prediction), `on_error` and `workers` as
    in a detector's config.
    """

    dataset: str | DatasetConfig = ""
    size: SizeWH = (224, 224)
    resize: Literal["area", "darknet"] = "area"
    augment: ClassifierAugmentConfig = ClassifierAugmentConfig()
    on_error: Literal["stop", "skip"] = "stop"
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"


class StageConfig(Section):
    """A part of a training, with a size, a length and a learning rate of its own; what it does not say is the run's.

    `min_crop` and `max_crop`: in the place of those of `data.augment`.
    """

    size: SizeWH | None = None
    epochs: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    lr: Annotated[float, Field(gt=0, le=1e6)] | None = None
    warmup: Annotated[int, Field(ge=0)] | None = None
    accumulate: Annotated[int, Field(ge=1)] | None = None
    min_crop: Annotated[int, Field(ge=1)] | None = None
    max_crop: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one_length(self) -> "StageConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps: give one of them")
        return self


class ClassifierLossConfig(Section):
    """Cross entropy over the label set. `label_smoothing`: the share of a label that is spread over its siblings."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class ClassifierEvalConfig(Section):
    """On which split a classifier is scored, and in batches of how many images."""

    split: str = "val"
    batch: Annotated[int, Field(ge=1)] = 64


class ClassifierConfig(Section):
    """A whole run: what `yolo9k classify train --config` reads.

    `stages`: parts of the training one after another, each with its own burn-in and schedule (YOLO9000: 160 epochs at
    224, then 10 at 448 with a smaller rate); none: one stage, of what `data` and `train` say.
    """

    task: Literal["classify"]
    model: ClassifierModelConfig = ClassifierModelConfig()
    data: ClassifierDataConfig = ClassifierDataConfig()
    loss: ClassifierLossConfig = ClassifierLossConfig()
    train: TrainConfig = TrainConfig()
    stages: tuple[StageConfig, ...] = ()
    eval: ClassifierEvalConfig = ClassifierEvalConfig()

    @model_validator(mode="after")
    def _sizes_fit(self) -> "ClassifierConfig":
        stride = 1 if self.model.name == "darknet" else STRIDE
        check_size("data.size", self.data.size, stride)
        for number, stage in enumerate(self.stages):
            if stage.size is not None:
                check_size(f"stages.{number}.size", stage.size, stride)
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> "ClassifierConfig":
        batch, augment = self.train.batch, self.data.augment
        if self.train.patience and len(self.stages) > 1:
            raise ValueError("train.patience: with several stages, all of them are made; it must be 0")
        for number, stage in enumerate(self.stages):
            parts = stage.accumulate or self.train.accumulate
            if batch % parts:
                raise ValueError(f"stages.{number}.accumulate: batch {batch} is not a multiple of {parts}")
            least, most = stage.min_crop or augment.min_crop, stage.max_crop or augment.max_crop
            if least > most:
                raise ValueError(f"stages.{number}.max_crop: must be at least min_crop, {least}, not {most}")
        return self

    @model_validator(mode="after")
    def _mixes_images(self) -> "ClassifierConfig":
        most = max((stage.accumulate or self.train.accumulate for stage in self.stages), default=self.train.accumulate)
        if self.data.augment.mixup and self.train.batch == most:
            raise ValueError(
                "data.augment.mixup: mixes the images of one part of a batch, and a part is one image; "
                "raise train.batch or lower accumulate"
            )
        return self
