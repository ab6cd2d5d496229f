"""What a config may say, and every default.

All models are frozen and refuse unknown keys. Sizes are pixels, anchors are grid cells of the model's stride,
numbers of steps are optimiser updates.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

STRIDE = 32  # of every model this package builds by name
LARGEST_SIDE = 8192  # pixels; a picture of that size fills the memory of most machines

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
SizeWH = tuple[int, int]


class Section(BaseModel):
    """Base of all parts of a config."""

    # numbers may stand for text: a device `0`, a label `7`
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


def as_size(value: object) -> object:
    """416 and "512x384" as (width, height)."""
    if isinstance(value, int) and not isinstance(value, bool):
        return (value, value)
    if isinstance(value, str):
        parts = value.lower().split("x")
        if all(part.strip().isdigit() for part in parts) and len(parts) in (1, 2):
            return (int(parts[0]), int(parts[-1]))
        raise ValueError("a size is a number or WIDTHxHEIGHT")
    return value


def _check_size(key: str, size: SizeWH, stride: int) -> None:
    if max(size) > LARGEST_SIDE:
        raise ValueError(f"{key}: width and height must be at most {LARGEST_SIDE}, not {size[0]}x{size[1]}")
    if any(side < stride or side % stride for side in size):
        needed = f"multiples of {stride}" if stride > 1 else "at least 1"
        raise ValueError(f"{key}: width and height must be {needed}, not {size[0]}x{size[1]}")


class NormConfig(Section):
    """Batch normalisation: `momentum` is the weight of the new batch, Darknet's is .01."""

    momentum: Annotated[float, Field(gt=0, le=1)] = 0.03
    eps: Positive = 1e-5


class ModelConfig(Section):
    """The network.

    `name`: `yolov2-tiny` and `yolov2-tiny-voc` differ in the last 3x3 convolution (512 and 1024 channels); `yolo9000`
    has none between Darknet-19 and the head.
    `passthrough` (yolov2 only): `darknet` is the released cfg's (1x1x64, then reorg), `paper` sends all 512
    channels. `width` multiplies all channels. `anchors`: (width, height) in grid cells, or `auto`: clustered
    from the training boxes. `classes`: `softmax` gives a box one label, `logistic` any number. The name `darknet`
    means the network of a Darknet cfg, whose text is `cfg`; the cfg's own numbers then hold, not those above.
    """

    name: Literal["yolov2", "yolov2-tiny", "yolov2-tiny-voc", "yolo9000", "darknet"] = "yolov2"
    cfg: str = ""
    passthrough: Literal["darknet", "paper", "none"] = "darknet"
    width: Annotated[float, Field(gt=0, le=4)] = 1.0
    anchors: Literal["auto"] | tuple[tuple[Positive, Positive], ...] = "auto"
    num_anchors: Annotated[int, Field(ge=1, le=32)] = 5
    classes: Literal["softmax", "logistic"] = "softmax"
    norm: NormConfig = NormConfig()

    @model_validator(mode="after")
    def _has_cfg(self) -> "ModelConfig":
        if (self.name == "darknet") != bool(self.cfg):
            raise ValueError("cfg: the text of a Darknet cfg belongs to the name darknet, and to no other")
        return self

    @field_validator("anchors")
    @classmethod
    def _some_anchors(cls, anchors: object) -> object:
        if anchors == ():
            raise ValueError("at least one anchor is needed")
        return anchors


class AugmentConfig(Section):
    """How training pictures are changed; Darknet's three recipes and any albumentations transforms.

    `recipe`: `place` puts the picture, scaled by U(`scale`) with its aspect jittered, on a grey canvas (Darknet
    2017); `fixed` does so at scale 1 (the reference commit); `crop` cuts out a part and stretches it (at
    publication); `none` letterboxes. `hue` is a shift, `saturation` and `exposure` are factors.
    `min_visible`: a box of which less is left is neither learned nor counted as background.
    `transforms`: albumentations transforms by name, e.g. `{GaussianBlur: {p: .1}}`, applied before the recipe.
    """

    recipe: Literal["place", "fixed", "crop", "none"] = "place"
    jitter: Annotated[float, Field(ge=0, lt=1)] = 0.3
    scale: tuple[Positive, Positive] = (0.25, 2.0)
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    saturation: Positive = 1.5
    exposure: Positive = 1.5
    flip: Fraction = 0.5
    flip_vertical: Fraction = 0.0
    min_visible: Fraction = 0.2
    transforms: tuple[dict[str, dict[str, object]], ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> "AugmentConfig":
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale: the smaller number comes first, not {list(self.scale)}")
        if any(len(transform) != 1 for transform in self.transforms):
            raise ValueError("transforms: each entry is one name with its arguments, e.g. {GaussianBlur: {p: 0.1}}")
        return self


class SplitSource(Section):
    """One part of a split of COCO's kind: an annotation file and the folder of its pictures."""

    annotations: str
    images: str


class TreeFile(Section):
    """A label tree: a `.tree` file, its `.names` and `.labels` beside it, or a taxonomy.

    A path from where the command runs, else from `$YOLO9K_DATA`; so are all paths of labels.
    """

    tree: str


class ClassNodes(Section):
    """How a data set's own classes find their nodes in a label tree: by id, name and alias, unless said otherwise.

    `map`: a Darknet `.map`, whose line c is the node of class c. `names`: class to id, name or alias of a node, which
    comes before both; an empty text leaves the class out: its boxes are neither learnt nor background, its pictures
    not seen. `on_unknown`: whether a class that finds no node stops everything or is left out.
    """

    map: str = ""
    names: dict[str, str] = {}
    on_unknown: Literal["stop", "skip"] = "stop"


class TreeLabels(ClassNodes, TreeFile):
    """Labels that are nodes of a tree. `classes`: the data set's own, in order, where the data do not say them."""

    classes: tuple[str, ...] = ()


def _labels_form(value: object) -> str:
    """Which form labels have, so that an error speaks of that one alone."""
    return "TreeLabels" if isinstance(value, Mapping | TreeLabels) else "tuple[str]"


Labels = Annotated[
    Annotated[tuple[str, ...], Tag("tuple[str]")] | Annotated[TreeLabels, Tag("TreeLabels")],
    Discriminator(_labels_form),
]


class DatasetConfig(Section):
    """A data set: its kind, where it is and how it is divided.

    `root` is relative to `$YOLO9K_DATA` (default `data/`). Entries of `splits` by kind: voc `SPLIT` or
    `FOLDER/SPLIT` (a list in `ImageSets/Main`, or `all`); coco an annotation file, alone or with its picture
    folder; yolo a folder of pictures or a text file that lists them; folder a folder (`.`: the root) whose folders
    are classes with pictures in them, so that each picture has a label and no box. `labels`: names in order, or a tree.
    `holdout`: the share of the training pictures that becomes `val` where no such split is named, chosen by a hash of
    the picture's name.
    """

    kind: Literal["voc", "coco", "yolo", "folder"]
    root: str
    splits: dict[str, tuple[str | SplitSource, ...]]
    labels: Labels = ()
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    name: str = ""

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it names, in order; none where the data say them."""
        return self.labels.classes if isinstance(self.labels, TreeLabels) else self.labels

    @model_validator(mode="after")
    def _has_train(self) -> "DatasetConfig":
        if not self.splits:
            raise ValueError("splits: name at least one")
        if self.holdout and "val" in self.splits:
            raise ValueError("holdout: the data set has a val split already")
        if self.holdout and "train" not in self.splits:
            raise ValueError("holdout: is a share of the split train, which is not named")
        return self


def _dataset_form(value: object) -> str:
    """Which form a data set has, so that an error speaks of that one alone."""
    return "DatasetConfig" if isinstance(value, Mapping | DatasetConfig) else "str"


OneDataset = Annotated[
    Annotated[str, Tag("str")] | Annotated[DatasetConfig, Tag("DatasetConfig")], Discriminator(_dataset_form)
]


class PartConfig(ClassNodes):
    """A data set as a part of a joint one: a name of the catalogue, the path of a config or a folder, or written out.

    What is said of its classes here comes before what its own config says.
    """

    dataset: OneDataset


class SourceConfig(PartConfig):
    """A data set to learn from: its `boxes`, or the labels of its `images` (kind folder).

    Of as many pictures as all sources have shares, `share` come from this one.
    """

    use: Literal["boxes", "images"]
    share: Annotated[int, Field(ge=1, le=1000)] = 1
    split: str = "train"


class ValidationConfig(PartConfig):
    """A data set to score on, with boxes; where `split` is empty, the split that is asked for."""

    split: str = ""


class JointConfig(Section):
    """Several data sets as one, over one label tree (YOLO9000 section 4, "Joint classification and detection").

    An epoch is one pass over the first source. Validation is on `val`, else on the first source with boxes.
    """

    sources: tuple[SourceConfig, ...]
    labels: TreeFile
    val: ValidationConfig | None = None
    name: str = ""

    @field_validator("labels", mode="before")
    @classmethod
    def _tree_alone(cls, value: object) -> object:
        said = [key for key in ClassNodes.model_fields if isinstance(value, Mapping) and key in value]
        if said:
            raise ValueError(f"{said[0]} belongs to each source, whose classes it is about; here stands the tree alone")
        return value

    @model_validator(mode="after")
    def _has_boxes(self) -> "JointConfig":
        if all(source.use != "boxes" for source in self.sources):
            raise ValueError("sources: at least one needs `use: boxes`, which teach where things are")
        return self


def _any_dataset_form(value: object) -> str:
    is_joint = isinstance(value, JointConfig) or (isinstance(value, Mapping) and "sources" in value)
    return "JointConfig" if is_joint else _dataset_form(value)


AnyDataset = DatasetConfig | JointConfig
NamedDataset = Annotated[
    Annotated[str, Tag("str")]
    | Annotated[DatasetConfig, Tag("DatasetConfig")]
    | Annotated[JointConfig, Tag("JointConfig")],
    Discriminator(_any_dataset_form),
]


class DataConfig(Section):
    """Pictures on their way into the network.

    `size`: of evaluation and detection, and of training where `sizes` is empty. `sizes`: multi-scale training
    draws a new one every `size_period` steps. `resize` (in evaluation and detection): `area` averages areas where a
    picture shrinks; `darknet` is Darknet's own, number for number, for its official weights. `fit_aspect`: change
    all sizes to the median aspect of the training pictures, at about the same area, so that less of the network's
    input is grey. `on_error`: what to do with an annotation file or a picture that cannot be read. `workers`: processes
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

    @field_validator("size", mode="before")
    @classmethod
    def _one_size(cls, value: object) -> object:
        return as_size(value)

    @field_validator("sizes", mode="before")
    @classmethod
    def _many_sizes(cls, value: object) -> object:
        return tuple(as_size(item) for item in value) if isinstance(value, list | tuple) else value

    @property
    def training_sizes(self) -> tuple[SizeWH, ...]:
        """The sizes that training draws from."""
        return self.sizes or (self.size,)


class LossConfig(Section):
    """The region loss, in Darknet's names.

    `thresh`: a box that overlaps a truth by more is not pushed down. `rescore`: objectness aims at the IoU of
    the predicted box, else at 1. `bias_match`: anchors are chosen by their own shape, else by the predicted one.
    `warmup_images`: while fewer pictures were seen, boxes are pulled to their anchors (Darknet: 12,800).
    `image_labels`: what a picture with a label and no box teaches. `paper`: the box that fits the label best learns
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
    warmup_images: Annotated[int, Field(ge=0)] = 12_800
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

    `batch`: pictures of one update over all processes, in `accumulate` parts. `epochs` or `steps`, not both.
    `burn_in`: steps during which the rate rises as (step / burn_in) ** burn_in_power. `clip_grad`: largest norm
    of the gradient, 0 is off. `ema`: decay of the averaged weights, 0 is off. `precision`, `channels_last` and
    `compile`: `auto` is chosen for the machine. `eval_every` and `patience` count epochs, 0 is off.
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
    burn_in: Annotated[int, Field(ge=0)] = 1000
    burn_in_power: Positive = 4.0
    clip_grad: Annotated[float, Field(ge=0)] = 0.0
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    deterministic: bool = False
    device: str = "auto"
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    channels_last: Literal["auto"] | bool = "auto"
    compile: Literal["auto"] | bool = "auto"
    eval_every: Annotated[int, Field(ge=0)] = 5
    patience: Annotated[int, Field(ge=0)] = 0
    log_every: Annotated[int, Field(ge=1)] = 10

    @model_validator(mode="after")
    def _one_length(self) -> "TrainConfig":
        if self.epochs is not None and self.steps is not None:
            raise ValueError("epochs and steps: give one of them")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: batch {self.batch} is not a multiple of {self.accumulate}")
        if self.patience and not self.eval_every:
            raise ValueError("patience: needs evaluations while training, eval_every is 0")
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

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Config":
        stride = 1 if self.model.name == "darknet" else STRIDE  # a cfg's own network says what it takes
        _check_size("data.size", self.data.size, stride)
        for size in self.data.sizes:
            _check_size("data.sizes", size, stride)
        return self
