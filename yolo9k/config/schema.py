"""What a training config may say, and every default.

All models are frozen and refuse unknown keys. Sizes are pixels, anchors are grid cells of the model's stride,
numbers of steps are optimiser updates.
"""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from yolo9k.config.datasets import NamedDataset
from yolo9k.config.section import STRIDE, Fraction, Positive, Section, SizeWH, Transforms, check_size


class NormConfig(Section):
    """What follows every convolution of the model.

    `batch`: batch norm; `momentum` is the weight of the new batch (Darknet's .01, PyTorch's .1). `group`: group norm,
    the same for every batch size; as many groups as divide the channels, at most `groups`. `frozen`: batch norm with
    the statistics and factors that the weights came with, none of them learnt. `sync`: batch norm over all processes
    of a run. `none`: no norm, but a bias. The layers of a torchvision backbone keep their own `eps`.
    """

    kind: Literal["batch", "group", "frozen", "sync", "none"] = "batch"
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.03
    eps: Positive = 1e-5
    groups: Annotated[int, Field(ge=1)] = 32


class BackboneConfig(Section):
    """What turns an image into features; part of the models of detectors and classifiers.

    The `name` `darknet` means the network of a Darknet cfg, whose text is `cfg`; the cfg's own numbers then hold.
    `backbone`: a network of torchvision (`resnet50`) in the place of the model's own. `pretrained`: it starts from
    torchvision's ImageNet weights, where no other weights are named. `width` multiplies the model's own channels; it
    is 1 with a backbone of torchvision.
    """

    name: str
    cfg: str = ""
    backbone: str = ""
    pretrained: bool = False
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    norm: NormConfig = NormConfig()

    @model_validator(mode="after")
    def _has_backbone(self) -> "BackboneConfig":
        if self.pretrained and not self.backbone:
            raise ValueError("pretrained: belongs to a backbone of torchvision, and none is named (backbone)")
        if (self.name == "darknet") != bool(self.cfg):
            raise ValueError("cfg: the text of a Darknet cfg belongs to the name darknet, and to no other")
        if self.name == "darknet" and self.backbone:
            raise ValueError("backbone: the network of a Darknet cfg has its own")
        if self.backbone and self.width != 1:
            raise ValueError(f"width: must be 1 with a backbone of torchvision, which has its own; not {self.width:g}")
        return self


class ModelConfig(BackboneConfig):
    """The network of a detector.

    `name`: `yolov2-tiny` and `yolov2-tiny-voc` differ in the last 3x3 convolution (512 and 1024 channels); `yolo9000`
    has none between backbone and head.
    `passthrough` (yolov2 only): `darknet` is the released cfg's (1x1x64, then reorg), `paper` sends all
    channels. `anchors`: (width, height) in grid cells, or `auto`: clustered from the training boxes. `location`: where
    a box may have its centre. `direct`: inside its cell, by a sigmoid; `offset`: anywhere, by a multiple of its
    anchor's size, as region proposals do (the rows before "location prediction" in the paper's table 2). `classes`:
    `softmax` gives a box one label, `logistic` any number.
    """

    name: Literal["yolov2", "yolov2-tiny", "yolov2-tiny-voc", "yolo9000", "darknet"] = "yolov2"
    passthrough: Literal["darknet", "paper", "none"] = "darknet"
    anchors: Literal["auto"] | tuple[tuple[Positive, Positive], ...] = "auto"
    num_anchors: Annotated[int, Field(ge=1, le=32)] = 5
    location: Literal["direct", "offset"] = "direct"
    classes: Literal["softmax", "logistic"] = "softmax"

    @field_validator("anchors")
    @classmethod
    def _some_anchors(cls, anchors: object) -> object:
        if anchors == ():
            raise ValueError("at least one anchor is needed")
        return anchors

    @model_validator(mode="after")
    def _has_location(self) -> "ModelConfig":
        if self.name == "darknet" and self.location != "direct":
            raise ValueError("location: the region of a Darknet cfg has direct, and no other")
        return self


class AugmentConfig(Section):
    """How training images are changed; Darknet's three recipes and any albumentations transforms.

    `geometry`: `place` puts the image, scaled by U(`scale`) with its aspect jittered, on a grey canvas (Darknet
    2017); `fixed` does so at scale 1 (the reference commit); `crop` cuts out a part and stretches it (at
    publication); `none` letterboxes. `hue` is a shift, `saturation` and `exposure` are factors.
    `min_visible`: a box of which less is left is neither learned nor counted as background.
    `transforms`: albumentations transforms by name, e.g. `{GaussianBlur: {p: .1}}`, applied before the recipe.
    """

    geometry: Literal["place", "fixed", "crop", "none"] = "place"
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.3
    scale: tuple[Positive, Positive] = (0.25, 2.0)
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    saturation: Positive = 1.5
    exposure: Positive = 1.5
    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    min_visible: Fraction = 0.2
    transforms: Transforms = ()

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentConfig":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: the smaller number comes first, not {list(self.scale)}")
        return self


class DataConfig(Section):
    """Images on their way into the network.

    `size`: of evaluation and detection, and of training where `sizes` is empty. `sizes`: multi-scale training
    draws a new one every `size_period` steps. `resize` (in evaluation and detection): `area` averages areas where a
    image shrinks; `darknet` is Darknet's own, number for number, for its official weights. `fit_aspect`: change
    all sizes to the median aspect of the training images, at about the same area, so that less of the network's
    input is grey. `on_error`: what to do with an annotation file or an image that cannot be read. `workers`: processes
    that read and augment, `auto` by the number of cores.
    """

    dataset: NamedDataset = ""
    size: SizeWH = (416, 416)
    sizes: tuple[SizeWH, ...] = ()
    size_period: Annotated[int, Field(ge=1)] = 10
    fit_aspect: bool = False
    resize: Literal["area", "darknet"] = "area"
    augment: AugmentConfig = AugmentConfig()
    on_error: Literal["stop", "skip"] = "stop"
    workers: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"

    @property
    def training_sizes(self) -> tuple[SizeWH, ...]:
        """The sizes that training draws from."""
        return self.sizes or (self.size,)


class LossConfig(Section):
    """The region loss, in Darknet's names.

    `thresh`: a box that overlaps a truth by more is not pushed down. `rescore`: objectness aims at the IoU of
    the predicted box, else at 1. `bias_match`: anchors are chosen by their own shape, else by the predicted one.
    `anchor_warmup`: while fewer images were seen, boxes are pulled to their anchors (Darknet: 12,800).
    `image_labels`: what an image with a label and no box teaches. `paper`: the box that fits the label best learns
    the label, and its objectness is raised to at least .3. `darknet`: it learns the label, and the objectness of all
    other boxes is pushed down. `image_label_box`: which box fits best. `objectness`: that of the largest objectness;
    `fit`: of the largest objectness x P(label), as paper and Darknet have it, with which a box beside the thing that
    happens to know its name goes on learning it, and the thing's own box does not.
    """

    object_scale: Annotated[float, Field(ge=0)] = 5.0
    noobject_scale: Annotated[float, Field(ge=0)] = 1.0
    class_scale: Annotated[float, Field(ge=0)] = 1.0
    coord_scale: Annotated[float, Field(ge=0)] = 1.0
    thresh: Fraction = 0.6
    rescore: bool = True
    bias_match: bool = True
    anchor_warmup: Annotated[int, Field(ge=0)] = 12_800
    image_labels: Literal["paper", "darknet"] = "paper"
    image_label_box: Literal["objectness", "fit"] = "objectness"


class ScheduleConfig(Section):
    """The learning rate over the run, after the burn-in.

    `steps`: times `scales[i]` from `at[i]` on; `poly`: (1 - progress) ** power; `cosine`: half a cosine down to
    `final` times the rate. `at` counts epochs when `unit` is epoch, else steps. Darknet's others: `step` multiplies
    by `gamma` after every `every` steps, `exp` after each; `sigmoid` is 1 / (1 + exp(gamma (step - every))).
    """

    policy: Literal["constant", "steps", "poly", "cosine", "step", "exp", "sigmoid"] = "cosine"
    at: tuple[Annotated[float, Field(ge=0)], ...] = ()
    scales: tuple[Positive, ...] = ()
    unit: Literal["epoch", "step"] = "step"
    power: Positive = 4.0
    gamma: float = 1.0
    every: Annotated[int, Field(ge=1)] = 1
    final: Fraction = 0.01

    @model_validator(mode="after")
    def _pairs(self) -> "ScheduleConfig":
        if len(self.at) != len(self.scales):
            raise ValueError(f"scales: {len(self.scales)} for {len(self.at)} entries of at; one each")
        if self.policy == "steps" and not self.at:
            raise ValueError("at: the policy 'steps' needs at least one entry")
        if list(self.at) != sorted(self.at):
            raise ValueError("at: must rise")
        return self


class TrainConfig(Section):
    """The run.

    `batch`: images of one update over all processes, in `accumulate` parts. `epochs` or `steps`, not both.
    `warmup`: steps during which the rate rises as (step / warmup) ** warmup_power. `clip_grad`: largest norm
    of the gradient, 0 is off. `ema`: decay of the averaged weights, 0 is off. `precision`, `channels_last` and
    `compile`: `auto` is chosen for the machine. `eval_every` and `patience` count epochs, 0 is off.
    `freeze`: parts that do not learn: `backbone`, the number of the first layers, or patterns of the names of layers
    (`backbone.fine.*`); nothing by default. `freeze_mode`: `frozen`: nothing in them changes, neither weights nor the
    statistics of their batch norms; `stopbackward`: no gradient reaches them, but weights decay and statistics move, as
    Darknet's option has it. `unfreeze_at`: the epoch from which on they learn, too. `lr_factors`: factors of the
    learning rate by such a name, the first that fits (`{backbone: 0.1}`).
    """

    batch: Annotated[int, Field(ge=1)] = 64
    accumulate: Annotated[int, Field(ge=1)] = 1
    epochs: Annotated[float, Field(gt=0)] | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0, le=1e6)] = 1e-3  # beyond, one update could overflow the weights unseen
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: ScheduleConfig = ScheduleConfig()
    warmup: Annotated[int, Field(ge=0)] = 1000
    warmup_power: Positive = 4.0
    clip_grad: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    freeze: int | tuple[str, ...] = ()
    freeze_mode: Literal["frozen", "stopbackward"] = "frozen"
    unfreeze_at: Annotated[float, Field(gt=0)] | None = None
    lr_factors: dict[str, Annotated[float, Field(ge=0)]] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    deterministic: bool = False
    device: str = "auto"
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    channels_last: Literal["auto"] | bool = "auto"
    compile: Literal["auto"] | bool = "auto"
    eval_every: Annotated[int, Field(ge=0)] = 5
    patience: Annotated[int, Field(ge=0)] = 0
    log_every: Annotated[int, Field(ge=1)] = 10

    @field_validator("freeze", mode="before")
    @classmethod
    def _listed(cls, freeze: object) -> object:
        if isinstance(freeze, bool):
            raise ValueError(f"must be a number of layers or names of them, not {str(freeze).lower()}")
        return (freeze,) if isinstance(freeze, str) and freeze else freeze or ()

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps: give one of them")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: batch {self.batch} is not a multiple of {self.accumulate}")
        if self.patience and not self.eval_every:
            raise ValueError("patience: needs evaluations while training, eval_every is 0")
        if self.unfreeze_at is not None and not self.freeze:
            raise ValueError("unfreeze_at: nothing is frozen (freeze)")
        return self


class EvalConfig(Section):
    """Thresholds of evaluation (Darknet's) and its batch size."""

    conf: Fraction = 0.005
    iou: Fraction = 0.45
    max_detections: Annotated[int, Field(ge=1)] = 100
    batch: Annotated[int, Field(ge=1)] = 16
    split: str = "val"
    metric: Literal["map50", "voc07", "coco"] = "map50"


class Config(Section):
    """A whole run: what `yolo9k train --config` reads."""

    task: Literal["detect"] = "detect"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        stride = 1 if self.model.name == "darknet" else STRIDE  # a cfg's own network says what it takes
        check_size("data.size", self.data.size, stride)
        for size in self.data.sizes:
            check_size("data.sizes", size, stride)
        return self
