"""The schema of data set configs: kind, root, splits and labels; and of joint data sets."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from yolo9k.config.kinds import KINDS, KindName
from yolo9k.config.section import Section
from yolo9k.errors import quote


def name_problem(names: Sequence[str]) -> str | None:
    """Return what is wrong with class names: one is empty, or two are equal, as labels are found by name, too."""
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if not name.strip():
            return f"the name of class {index} is empty"
        if first.setdefault(name, index) != index:
            return f"class {first[name]} and class {index} are both called {quote(name)}; class names must differ"
    return None


class SplitSource(Section):
    """One part of a COCO split: an annotation file and its image folder."""

    annotations: str
    images: str


class TreeFile(Section):
    """A label tree: a `.tree` file with `.names` and `.labels` beside it, or a taxonomy file.

    Paths of label files are relative to the current folder, else to `$YOLO9K_DATA`.
    """

    tree: str


class ClassNodes(Section):
    """How the classes of a data set map to nodes of a label tree; by default by id, name or alias.

    `map`: a Darknet `.map` file: line c is the node of class c. `names`: from a class to the id, name or alias of a
    node; it overrides both. An empty text excludes the class: its boxes are ignored, its images are not used.
    `on_unknown`: `stop` at or `skip` a class without a node.
    """

    map: str = ""
    names: dict[str, str] = Field(default_factory=dict)
    on_unknown: Literal["stop", "skip"] = "stop"


class TreeLabels(ClassNodes, TreeFile):
    """Labels as nodes of a tree. `classes`: the classes of the data set in order, if the data do not name them."""

    classes: tuple[str, ...] = ()


def _labels_form(value: object) -> str:
    """Return the form of the labels, so that errors are about that form only."""
    return "TreeLabels" if isinstance(value, Mapping | TreeLabels) else "tuple[str]"


Labels = Annotated[
    Annotated[tuple[str, ...], Tag("tuple[str]")] | Annotated[TreeLabels, Tag("TreeLabels")],
    Discriminator(_labels_form),
]


class DatasetConfig(Section):
    """A data set: kind, root folder, splits and labels.

    `root` is relative to `$YOLO9K_DATA` (default `data/`). Entries of `splits` by `kind`: `voc`: `SPLIT` or
    `FOLDER/SPLIT` (a list in `ImageSets/Main`, or `all`); `coco`: an annotation file, alone or with its image folder;
    `yolo`: an image folder (`FOLDER/*`: without its subfolders) or a text file that lists images; `folder`: a folder
    of class folders (`.`: the root), so that each image has an image-level label and no boxes; `shards`: a tar file in
    webdataset's layout, a folder of them, or a pattern (`train-{000..146}.tar`). `labels`: class names in order, or a
    tree. `holdout`: the fraction of `train` that becomes `val`, chosen by a hash of the file name. `extra_columns`
    (kind `yolo`): numbers after the box in each line of a label file, which are not used, for example those of
    keypoints; 0: longer lines are outlines; `null`: as the data say, else outlines, or a score in the sixth column.
    """

    kind: KindName
    root: str
    splits: dict[str, tuple[str | SplitSource, ...]]
    labels: Labels = ()
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    extra_columns: Annotated[int, Field(ge=0, le=1000)] | None = None
    name: str = ""

    @property
    def has_boxes(self) -> bool:
        """Return whether images have boxes rather than image-level labels."""
        return KINDS[self.kind].has_boxes

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the class names in order; empty if the data name them."""
        return self.labels.classes if isinstance(self.labels, TreeLabels) else self.labels

    @model_validator(mode="after")
    def _names_differ(self) -> "DatasetConfig":
        if problem := name_problem(self.classes):
            raise ValueError(f"labels: {problem}")
        return self

    @model_validator(mode="after")
    def _has_train(self) -> "DatasetConfig":
        if not self.splits:
            raise ValueError("splits: must have at least one")
        if self.holdout and "val" in self.splits:
            raise ValueError("holdout: must be 0 if there is a val split")
        if self.holdout and "train" not in self.splits:
            raise ValueError("holdout: needs a train split")
        return self


def _dataset_form(value: object) -> str:
    """Return the form of a data set, so that errors are about that form only."""
    return "DatasetConfig" if isinstance(value, Mapping | DatasetConfig) else "str"


OneDataset = Annotated[
    Annotated[str, Tag("str")] | Annotated[DatasetConfig, Tag("DatasetConfig")], Discriminator(_dataset_form)
]


class PartConfig(ClassNodes):
    """A data set within a joint one: a catalogue name, the path of a config or a folder, or written out.

    Class mappings given here override those of its own config.
    """

    dataset: OneDataset


class SourceConfig(PartConfig):
    """A source of training images: its `boxes`, or the image-level labels of its `images` (kinds folder, shards).

    `weight`: sampling weight; this source gives `weight` images of every sum(weights) drawn.
    """

    use: Literal["boxes", "images"]
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    split: str = "train"


class ValidationConfig(PartConfig):
    """A data set with boxes for evaluation; `split`: default: the requested split."""

    split: str = ""


class JointConfig(Section):
    """Several data sets over one label tree (YOLO9000 section 4, "Joint classification and detection").

    An epoch is one pass over the first source. Validation uses `val`, else the first source with boxes.
    """

    sources: tuple[SourceConfig, ...]
    labels: TreeFile
    val: ValidationConfig | None = None
    name: str = ""

    @field_validator("labels", mode="before")
    @classmethod
    def _tree_alone(cls, value: object) -> object:
        misplaced = [key for key in ClassNodes.model_fields if isinstance(value, Mapping) and key in value]
        if misplaced:
            raise ValueError(f"{misplaced[0]} must be given per source; here only tree is allowed")
        return value

    @model_validator(mode="after")
    def _has_boxes(self) -> "JointConfig":
        if all(source.use != "boxes" for source in self.sources):
            raise ValueError("sources: at least one must have `use: boxes`")
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
