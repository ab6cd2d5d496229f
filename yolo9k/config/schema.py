"""The schema of detection training configs: every key, its type, range and default.

All sections are frozen and refuse unknown keys. Sizes are pixels, anchors are grid cells of the model's stride, a step
is one optimiser update.
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from yolo9k.config.datasets import NamedDataset
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

MAX_LR = 1e6  # a larger learning rate could overflow the weights in one step

DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h)")
UNITS = {"s": 1, "min": 60, "h": 3600}  # seconds


class NormConfig(Section):
    """The norm after every convolution of the model.

    `kind`: `batch`: batch norm; `momentum` is the weight of the new batch (Darknet .01, PyTorch's default .1). `group`:
    group norm, independent of the batch size; the number of groups is the largest divisor of the channels up to
    `groups`. `frozen`: batch norm with the statistics and affine parameters of the initial weights, not trained.
    `sync`: synchronised batch norm over several processes on GPUs; in one process it equals `batch`. `none`: no norm,
    but a bias. The layers of a torchvision backbone keep their own `eps`.
    """

    kind: Literal["batch", "group", "frozen", "sync", "none"] = "batch"
    momentum: Annotated[float, Field(gt=0, le=1)] = 0.03
    eps: Positive = 1e-5
    groups: Annotated[int, Field(ge=1)] = 32


class BackboneConfig(Section):
    """The backbone, shared by the models of detectors and classifiers.

    `name: darknet` is the network of a Darknet cfg whose text is `cfg`; the cfg's values then apply. `backbone`: a
    torchvision model (`resnet50`) instead of the model's own backbone. `pretrained`: start from torchvision's ImageNet
    weights unless `--weights` is given. `width` multiplies the channels; it must be 1 with a torchvision backbone.
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
            raise ValueError("pretrained: needs a torchvision backbone (backbone)")
        if (self.name == "darknet") != bool(self.cfg):
            raise ValueError("cfg: must be given with name darknet, and only with it")
        if self.name == "darknet" and self.backbone:
            raise ValueError("backbone: must be empty with a Darknet cfg, which has its own backbone")
        if self.backbone and self.width != 1:
            raise ValueError(f"width: must be 1 with a torchvision backbone, not {self.width:g}")
        return self


def check_channels(channels: int, model: BackboneConfig) -> None:
    """Raise `ValueError` for grey input of a model that takes RGB; the network of a cfg checks its input itself."""
    if channels != 3 and model.name != "darknet":
        raise ValueError(f"data.channels: must be 3; {channels} is for a Darknet cfg that says so")


class ModelConfig(BackboneConfig):
    """The model of a detector.

    `name`: `yolov2-tiny` and `yolov2-tiny-voc` differ in the last 3x3 convolution (512 and 1024 channels); `yolo9000`
    has no convolution between backbone and head.
    `passthrough` (yolov2 only): `darknet` as in the released cfg (1x1x64, then reorg), `paper` passes all channels,
    `none`. `anchors`: (width, height) in grid cells, or `auto`: clustered from the training boxes. `location`: how the
    box centre is predicted. `direct`: inside its cell, by a sigmoid; `offset`: anywhere, as a multiple of the anchor's
    size, like a region proposal network (the rows before "location prediction" in the paper's table 2). `classes`:
    `softmax`: one label per box, `logistic`: any number of labels per box.
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
            raise ValueError("must have at least one anchor")
        return anchors

    @model_validator(mode="after")
    def _has_location(self) -> "ModelConfig":
        if self.name == "darknet" and self.location != "direct":
            raise ValueError("location: must be direct with a Darknet cfg")
        return self


class AugmentConfig(Section):
    """Augmentation of training images: albumentations transforms, then Darknet's geometry, colours and flips.

    `geometry`: `place` puts the image on a grey canvas, scaled by U(`scale`) and with jittered aspect ratio (Darknet
    2017); `fixed` does so at scale 1 (Darknet's reference commit); `crop` stretches a random crop (Darknet at
    publication); `none` resizes as for detection. `jitter`: of the aspect ratio, or of the crop's borders. `hue` is a
    shift, `saturation` and `exposure` are factors. `flip`, `flip_vertical`: probabilities.
    `min_visible`: a box with a smaller visible fraction is ignored (neither a target nor background).
    `transforms`: albumentations transforms by name, applied first, for example `[{GaussianBlur: {p: .1}}]`.
    """

    geometry: Literal["place", "fixed", "crop", "none"] = "place"
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.3
    scale: tuple[Factor, Factor] = (0.25, 2.0)
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
            raise ValueError(f"scale: must be [min, max], not {list(self.scale)}")
        return self


class DataConfig(Section):
    """The data set, the input size and the loading of images.

    `dataset`: a catalogue name, a config, a folder, or a data set config written out. `size`: input size of evaluation
    and detection, and of training if `sizes` is empty. `sizes`: multi-scale training draws a new size every
    `size_period` steps. `fit_aspect`: change all sizes to the median aspect ratio of the training images at about the
    same area, so that less of the input is padding. `resize` (evaluation and detection): `area` averages areas when an
    image shrinks; `darknet` is bit-exact with Darknet, for its official weights. `resize_mode` (also training):
    `letterbox` keeps the aspect ratio of images, `stretch` does not, like AlexeyAB's fork of Darknet and many ports.
    `channels`: of the network's input, 3 (RGB) or 1 (grey), as the cfg of the model says. `on_error`: `stop` at or
    `skip` annotation files and images that cannot be read. `workers`: worker processes; `auto`: one per core, at
    most 8.
    """

    dataset: NamedDataset = ""
    size: SizeWH = (416, 416)
    sizes: tuple[SizeWH, ...] = ()
    size_period: Annotated[int, Field(ge=1)] = 10
    fit_aspect: bool = False
    resize: Literal["area", "darknet"] = "area"
    resize_mode: Literal["letterbox", "stretch"] = "letterbox"
    channels: Literal[1, 3] = 3
    augment: AugmentConfig = AugmentConfig()
    on_error: Literal["stop", "skip"] = "stop"
    workers: Workers = "auto"

    @property
    def training_sizes(self) -> tuple[SizeWH, ...]:
        """Return the sizes that training draws from."""
        return self.sizes or (self.size,)


class LossConfig(Section):
    """The region loss, with Darknet's names.

    `object_scale`, `noobject_scale`, `class_scale`, `coord_scale`: loss weights. `thresh`: a predicted box with a
    higher IoU with any ground truth is not background. `rescore`: the target of the objectness is the IoU of the
    predicted box, else 1. `bias_match`: match anchors by their own shape, else by the predicted shape.
    `anchor_warmup`: for so many images, boxes without ground truth are pulled to their anchors (Darknet: 12,800).
    `image_labels`: the loss of images with an image-level label. `paper`: the best box learns the label, and its
    objectness is raised to at least .3. `darknet`: the best box learns the label, and the objectness of all other
    boxes is pushed down. `image_label_box`: the best box. `objectness`: the box with the highest objectness. `fit`:
    with the highest objectness x P(label), as in the paper and in Darknet; a box beside the object that already
    predicts the label then keeps learning it, and the box on the object never does.
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
    """The learning rate schedule after the warm-up.

    `steps`: multiply by `scales[i]` from `at[i]` on; `poly`: (1 - progress) ** power; `cosine`: half a cosine down to
    `final` times the learning rate. `unit`: whether `at` counts epochs or steps. Darknet's other policies: `step`
    multiplies by `gamma` every `every` steps, `exp` every step; `sigmoid` is 1 / (1 + exp(gamma (step - every))).
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
            raise ValueError(f"scales: must have as many entries as at ({len(self.at)}), not {len(self.scales)}")
        if self.policy == "steps" and not self.at:
            raise ValueError("at: must have at least one entry with policy steps")
        if list(self.at) != sorted(self.at):
            raise ValueError("at: must increase")
        return self


def seconds(duration: str) -> float:
    """Return a duration such as `90s`, `10min` or `2h` in seconds. Raises `ValueError` for another text."""
    match = DURATION.fullmatch(duration.strip())
    if match is None or not float(match[1]):
        raise ValueError(f"must be a number of steps, or a time such as 90s, 10min or 2h, not {duration!r}")
    return float(match[1]) * UNITS[match[2]]


def _check_duration(text: str) -> str:
    seconds(text)
    return text


class TrainConfig(Section):
    """Optimisation, length and outputs of the run.

    `batch`: images per step, processed as `accumulate` micro-batches. `epochs` or `steps`: length, not both (default:
    160 epochs). `warmup`: steps in which the learning rate rises as (step / warmup) ** warmup_power. `clip_grad`:
    maximum gradient norm, 0: off. `ema`: decay of the averaged weights, 0: off. `precision`, `channels_last`,
    `compile`: `auto` is chosen for the machine. `eval_every`, `patience`: epochs, 0: off. `log_every`: steps.
    `checkpoint_every`: steps, or a time such as `90s`, `10min` or `2h`; also before and after each evaluation.
    `keep_last`: earlier checkpoints that stay beside the last one. `keep_every`: those of multiples of so many steps
    always stay, 0: off. `on_nonfinite`: `stop` at a step whose loss or gradient is NaN or infinite, or `skip` its
    update and count it; more than ten in a row stop the run, too.
    `freeze`: layers that are not trained: `backbone`, the number of first layers, or patterns of layer names
    (`backbone.fine.*`). `freeze_mode`: `frozen`: neither weights nor batch norm statistics change; `stopbackward`: no
    gradient, but weights decay and statistics update, as with Darknet's option of that name. `unfreeze_at`: epoch from
    which they are trained. `lr_factors`: learning rate multipliers by layer name or pattern; the first match applies
    (`{backbone: 0.1}`).
    """

    batch: Annotated[int, Field(ge=1)] = 64
    accumulate: Annotated[int, Field(ge=1)] = 1
    epochs: Epochs | None = None
    steps: Steps | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Annotated[float, Field(gt=0, le=MAX_LR)] = 1e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    schedule: ScheduleConfig = ScheduleConfig()
    warmup: Annotated[int, Field(ge=0)] = 1000
    warmup_power: Positive = 4.0
    clip_grad: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    freeze: int | tuple[str, ...] = ()
    freeze_mode: Literal["frozen", "stopbackward"] = "frozen"
    unfreeze_at: Epochs | None = None
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
    checkpoint_every: Annotated[int, Field(ge=1)] | Annotated[str, AfterValidator(_check_duration)] = "10min"
    keep_last: Annotated[int, Field(ge=1)] = 1
    keep_every: Annotated[int, Field(ge=0)] = 0
    on_nonfinite: Literal["stop", "skip"] = "stop"

    @field_validator("freeze", mode="before")
    @classmethod
    def _listed(cls, freeze: object) -> object:
        if isinstance(freeze, bool):
            raise ValueError(f"must be a number of layers or layer names, not {str(freeze).lower()}")
        return (freeze,) if isinstance(freeze, str) and freeze else freeze or ()

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps: give only one")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: must divide batch {self.batch}, not {self.accumulate}")
        if self.patience and not self.eval_every:
            raise ValueError("patience: needs eval_every above 0")
        if self.unfreeze_at is not None and not self.freeze:
            raise ValueError("unfreeze_at: needs freeze, which is empty")
        return self


class EvalConfig(Section):
    """Evaluation: thresholds (Darknet's), batch size, split, and the metric that chooses the best checkpoint."""

    conf: Fraction = 0.005
    iou: Fraction = 0.45
    max_detections: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    batch: Annotated[int, Field(ge=1)] = 16
    split: str = "val"
    metric: Literal["map50", "voc07", "coco"] = "map50"


class Config(Section):
    """The config of a detector's training, as read by `yolo9k train --config`."""

    task: Literal["detect"] = "detect"
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @property
    def all_sizes(self) -> tuple[SizeWH, ...]:
        """Return the sizes of training, evaluation and detection."""
        return tuple(dict.fromkeys((self.data.size, *self.data.training_sizes)))

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        check_channels(self.data.channels, self.model)
        stride = 1 if self.model.name == "darknet" else STRIDE  # the cfg's network checks its own sizes
        check_size("data.size", self.data.size, stride)
        for size in self.data.sizes:
            check_size("data.sizes", size, stride)
        return self
