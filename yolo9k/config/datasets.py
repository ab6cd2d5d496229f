"""What a data set config may say: its kind, where it lies, its labels; several data sets as one."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from yolo9k.config.section import Section


class SplitSource(Section):
    """One part of a split of COCO's kind: an annotation file and the folder of its images."""

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
    comes before both; an empty text leaves the class out: its boxes are neither learnt nor background, its images
    not seen. `on_unknown`: whether a class that finds no node stops everything or is left out.
    """

    map: str = ""
    names: dict[str, str] = Field(default_factory=dict)
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
    `FOLDER/SPLIT` (a list in `ImageSets/Main`, or `all`); coco an annotation file, alone or with its image
    folder; yolo a folder of images or a text file that lists them; folder a folder (`.`: the root) whose folders
    are classes with images in them, so that each image has a label and no box; shards a tar file in webdataset's
    layout, a folder of them or a pattern (`train-{000..146}.tar`). `labels`: names in order, or a tree.
    `holdout`: the share of the training images that becomes `val` where no such split is named, chosen by a hash of
    the image's name.
    """

    kind: Literal["voc", "coco", "yolo", "folder", "shards"]
    root: str
    splits: dict[str, tuple[str | SplitSource, ...]]
    labels: Labels = ()
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    name: str = ""

    @property
    def has_boxes(self) -> bool:
        """Whether its images have boxes, and not a label each."""
        return self.kind not in ("folder", "shards")

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
    """A data set to learn from: its `boxes`, or the labels of its `images` (kinds folder and shards).

    `weight`: sampling weight; this source gives `weight` images of every sum(weights) drawn.
    """

    use: Literal["boxes", "images"]
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
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
