"""Joint data sets: what is read of which source, over which labels, and in which order."""

import json

import pytest
import yaml
from PIL import Image

from yolo9k.config import Config, DatasetConfig, JointConfig, dump, load_dataset_config
from yolo9k.config.datasets import TreeLabels
from yolo9k.datasets.autodetect import image_folder
from yolo9k.datasets.joint import evaluation_split, read_box_records, read_training, require_single
from yolo9k.datasets.load import ImageSet, read_annotations
from yolo9k.datasets.tools.coverage import compute_coverage
from yolo9k.datasets.tools.shards import ShardOptions, write_shards
from yolo9k.errors import ConfigError, DataError
from yolo9k.wordtree.taxonomy import open_tree


@pytest.fixture
def joint(zoo):
    return load_dataset_config(zoo / "joint.yaml")


def change(zoo, source=0, **changes):
    """The joint config with changed keys of a source."""
    values = yaml.safe_load((zoo / "joint.yaml").read_text())
    values["sources"][source] |= changes
    (zoo / "changed.yaml").write_text(yaml.safe_dump(values))
    return load_dataset_config(zoo / "changed.yaml")


def names(tree, nodes):
    return [tree.names[node] for node in nodes]


def test_all_sources_have_the_same_tree(joint, zoo):
    training = read_training(joint)
    boxes, images = training.sources
    assert training.labels == boxes.read.labels == images.read.labels == open_tree(zoo / "zoo.txt")
    assert [str(source) for source in training.sources] == [
        "boxes: 4 images with boxes", "kinds: 6 images with image-level labels",
    ]  # fmt: skip
    assert {tuple(names(training.labels, record.boxes.label)) for record in training.box_records} == {("dog", "car")}
    assert isinstance(images.read, ImageSet)
    labels = [training.labels.names[images.read.records[i].image_label] for i in range(6)]
    assert labels == ["car", "poodle", "poodle", "poodle", "terrier", "terrier"]
    assert training.errors == ()


def test_the_supervision_of_a_training(joint):
    training = read_training(joint)
    supervision = training.supervision()
    assert names(training.labels, supervision.boxes) == ["dog", "car"]
    assert names(training.labels, supervision.images) == ["poodle", "terrier", "car"]


def test_ignored_boxes_are_no_supervision(zoo):
    training = read_training(change(zoo, names={"car": ""}))
    assert names(training.labels, training.supervision().boxes) == ["dog"]
    assert {tuple(record.boxes.ignore) for record in training.box_records} == {(False, True)}
    own = training.sources[0].read.classes
    assert [(each.name, each.node is None) for each in own] == [("hound", False), ("car", True)]


def test_an_epoch_is_a_pass_over_the_first_source(joint, zoo):
    assert read_training(joint).images_per_epoch == 4 * 3
    values = yaml.safe_load((zoo / "joint.yaml").read_text())
    (zoo / "turned.yaml").write_text(yaml.safe_dump(values | {"sources": values["sources"][::-1]}))
    assert read_training(load_dataset_config(zoo / "turned.yaml")).images_per_epoch == 6 * 3 / 2


def test_sampling_weights_of_sources(joint):
    stream = read_training(joint).sample_order(seed=0)
    assert (stream.counts, stream.weights) == ((4, 6), (1, 2))


def test_a_single_data_set_is_a_source_of_its_own(zoo):
    config = load_dataset_config(zoo / "boxes.yaml")
    training = read_training(config)
    assert len(training.sources) == 1
    assert training.images_per_epoch == len(training.box_records) == 4
    assert training.labels.is_flat
    assert training.dataset == config
    assert training.supervision().images == ()


def test_a_resolved_config_reads_the_same_from_any_folder(zoo, tmp_path, monkeypatch):
    monkeypatch.chdir(zoo)
    values = yaml.safe_load((zoo / "joint.yaml").read_text())
    values["labels"]["tree"] = "zoo.txt"
    values["val"] = {"dataset": "boxes", "names": {"hound": "cat"}}
    (zoo / "boxes" / "classes.txt").write_text("hound\ncar\n")
    (zoo / "joint.yaml").write_text(yaml.safe_dump(values))
    first = read_training(load_dataset_config("joint.yaml"))
    monkeypatch.chdir(tmp_path.parent)
    config = Config.model_validate({"data": {"dataset": yaml.safe_load(dump(first.dataset))}})
    assert config.data.dataset == first.dataset
    again = read_training(load_dataset_config(config.data.dataset))
    assert again.dataset == first.dataset
    assert again.supervision() == first.supervision()
    assert [record.path for record in again.box_records] == [record.path for record in first.box_records]
    scored, split = evaluation_split(config.data.dataset, "train")
    assert names(again.labels, read_annotations(scored, split).records[0].boxes.label) == ["cat", "car"]


def test_resolved_sources_have_their_class_names(joint):
    written = read_training(joint).dataset
    assert isinstance(written, JointConfig)
    assert [part.dataset.classes for part in written.sources] == [("hound", "car"), ()]


# --- labels of sources


def test_a_map_and_names_of_a_source(zoo):
    (zoo / "my.map").write_text("3\n7\n")  # cat, bus
    mapped = read_training(change(zoo, map=str(zoo / "my.map")))
    assert names(mapped.labels, mapped.supervision().boxes) == ["cat", "bus"]
    named = read_training(change(zoo, map=str(zoo / "my.map"), names={"hound": "n1"}))
    assert sorted(names(named.labels, named.supervision().boxes)) == ["bus", "poodle"]
    again = read_training(named.dataset)
    assert again.supervision() == named.supervision()


def test_a_map_for_another_tree_is_not_used(zoo):
    (zoo / "my.map").write_text("3\n7\n")
    (zoo / "other.txt").write_text("a\nb\nc\ncat\nd\ne\nf\nbus\n")
    own = yaml.safe_load((zoo / "boxes.yaml").read_text())
    own["labels"] = {"tree": str(zoo / "other.txt"), "map": str(zoo / "my.map"), "classes": ["hound", "car"]}
    (zoo / "boxes.yaml").write_text(yaml.safe_dump(own))
    training = read_training(load_dataset_config(zoo / "joint.yaml"))
    assert names(training.labels, training.supervision().boxes) == ["dog", "car"]  # by name and alias
    own["labels"]["tree"] = str(zoo / "zoo.txt")
    (zoo / "boxes.yaml").write_text(yaml.safe_dump(own))
    training = read_training(load_dataset_config(zoo / "joint.yaml"))
    assert names(training.labels, training.supervision().boxes) == ["cat", "bus"]


def test_names_in_the_config_of_a_data_set_are_kept(zoo):
    own = yaml.safe_load((zoo / "boxes.yaml").read_text())
    own["labels"] = {"tree": str(zoo / "zoo.txt"), "names": {"hound": "cat", "car": "bus"}, "classes": ["hound", "car"]}
    (zoo / "boxes.yaml").write_text(yaml.safe_dump(own))
    training = read_training(change(zoo, names={"car": "car"}))
    assert names(training.labels, training.supervision().boxes) == ["cat", "car"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"names": {"hound": "wolf"}},
            DataError,
            "data set boxes: 1 class has no node in .*: hound .mapped to 'wolf', no",
        ),
        ({"names": {"hund": "dog"}}, ConfigError, "data set boxes: labels.names: hund: no such class"),
        ({"map": "short.map"}, DataError, r"short\.map: 1 lines for 2 classes of data set boxes"),
        ({"map": "high.map"}, DataError, r"high\.map:2: node must be an integer, 0 to 7, not '8'"),
        ({"map": "gone.map"}, DataError, r"^gone\.map: no such file in the current folder or in \$YOLO9K_DATA"),
        ({"split": "extra"}, ConfigError, "data set boxes: no split 'extra'; it has train, val"),
    ],
)
def test_invalid_labels_are_one_line(zoo, monkeypatch, changes, error, message):
    monkeypatch.chdir(zoo)
    (zoo / "short.map").write_text("1\n")
    (zoo / "high.map").write_text("1\n8\n")
    with pytest.raises(error, match=message) as caught:
        read_training(change(zoo, **changes))
    assert "\n" not in str(caught.value)


def test_unmapped_classes_can_be_skipped(zoo):
    (zoo / "kinds" / "wolf").mkdir()
    (zoo / "kinds" / "wolf" / "1.png").touch()
    with pytest.raises(
        DataError, match=r"data set kinds: 1 class has no node in .*zoo.txt: wolf; add them to the taxonomy"
    ):
        read_training(load_dataset_config(zoo / "joint.yaml"))
    training = read_training(change(zoo, source=1, on_unknown="skip"))
    assert len(training.sources[1].read.records) == 6
    assert [d.message for d in training.errors] == [f"1 class has no node in {zoo / 'zoo.txt'}: wolf; skipped"]
    training = read_training(change(zoo, source=1, names={"wolf": ""}))
    assert len(training.sources[1].read.records) == 6
    assert training.errors == ()


def test_a_source_without_any_mapped_class_is_an_error(zoo):
    with pytest.raises(DataError, match="data set boxes: no class is mapped: 2 classes have no node in"):
        read_training(change(zoo, names={"hound": "wolf", "car": "van"}, on_unknown="skip"))


def test_boxes_of_skipped_classes_are_ignored(zoo):
    training = read_training(change(zoo, names={"hound": "wolf"}, on_unknown="skip"))
    assert {tuple(record.boxes.ignore) for record in training.box_records} == {(True, False)}


# --- folders and other commands


def test_a_folder_with_splits(zoo):
    (zoo / "imagenet" / "train" / "poodle").mkdir(parents=True)
    (zoo / "imagenet" / "val" / "poodle").mkdir(parents=True)
    assert image_folder(zoo / "imagenet").splits == {"train": ("train",), "val": ("val",)}
    plain = image_folder(zoo / "kinds")
    assert (plain.kind, plain.splits, plain.name) == ("folder", {"train": (".",)}, "kinds")


def test_the_evaluation_split(joint, zoo):
    scored, split = evaluation_split(joint, "val")
    assert split == "val"
    read = read_annotations(scored, split)
    assert len(read.records) == 2
    assert names(read.labels, read.records[0].boxes.label) == ["dog", "car"]
    values = yaml.safe_load((zoo / "joint.yaml").read_text())
    for split, message in (("train", None), ("foo", "no split 'foo'; it has train, val")):
        values["val"] = {"dataset": "boxes.yaml", "split": split}
        (zoo / "changed.yaml").write_text(yaml.safe_dump(values))
        changed = load_dataset_config(zoo / "changed.yaml")
        if message is None:
            assert evaluation_split(changed, "val")[1] == "train"
        else:
            with pytest.raises(ConfigError, match=message):
                evaluation_split(changed, "val")
    single_set = load_dataset_config(zoo / "boxes.yaml")
    assert evaluation_split(single_set, "test") == (single_set, "test")


def test_read_box_records(joint, zoo):
    assert [record.path.name for record in read_box_records(joint, "train")] == ["0.png", "1.png", "2.png", "3.png"]
    assert len(read_box_records(joint, "val")) == 2
    assert len(read_box_records(load_dataset_config(zoo / "boxes.yaml"), "val")) == 2


def test_require_single(joint, zoo):
    boxes = load_dataset_config(zoo / "boxes.yaml")
    assert require_single(boxes) is boxes
    with pytest.raises(ConfigError, match=r"^joint: is a joint data set; use one of its sources: boxes, .*kinds$"):
        require_single(joint)


# --- what data sets say about a tree


def test_coverage_counts_labels_and_lists_unmapped_classes(joint, zoo):
    (zoo / "kinds" / "wolf").mkdir()
    (zoo / "kinds" / "wolf" / "1.png").touch()
    tree = open_tree(zoo / "zoo.txt")
    boxes, images = compute_coverage(joint, str(zoo / "zoo.txt"), tree)
    assert (boxes.image_level, boxes.images, boxes.classes, boxes.unmapped) == (False, 4, 2, {})
    assert {tree.names[i]: int(n) for i, n in enumerate(boxes.counts) if n} == {"dog": 4, "car": 4}
    assert (images.image_level, images.images, images.classes, images.unmapped) == (True, 7, 4, {"wolf": "no node"})
    assert {tree.names[i]: int(n) for i, n in enumerate(images.counts) if n} == {"poodle": 3, "terrier": 2, "car": 1}
    assert images.to_dict()["count"] == 6


def test_coverage_of_one_data_set_by_names(zoo):
    other = zoo / "other.txt"
    other.write_text("hound\nbike\n")
    (found,) = compute_coverage(load_dataset_config(zoo / "boxes.yaml"), str(other), open_tree(other))
    assert found.counts.tolist() == [4, 0]
    assert found.unmapped == {"car": "no node"}
    labels = TreeLabels(tree=str(zoo / "zoo.txt"), names={"car": "bike"}, classes=("hound", "car"))
    config = load_dataset_config(zoo / "boxes.yaml")
    assert isinstance(config, DatasetConfig)
    (found,) = compute_coverage(config.model_copy(update={"labels": labels}), str(other), open_tree(other))
    assert found.counts.tolist() == [4, 4]


def test_image_level_labels_from_shards(zoo):
    """A source of tar shards is the source of the folder that they were packed from."""
    write_shards(image_folder(zoo / "kinds"), "train", zoo / "shards", ShardOptions())
    text = (zoo / "joint.yaml").read_text()
    (zoo / "packed.yaml").write_text(text.replace("dataset: kinds", "dataset: shards"))
    (zoo / "named.yaml").write_text(text.replace("dataset: kinds", "dataset: shards/shards.yaml"))
    plain = read_training(load_dataset_config(zoo / "joint.yaml"))
    for name in ("packed", "named"):
        joint = read_training(load_dataset_config(zoo / f"{name}.yaml"))
        assert joint.supervision() == plain.supervision()
        again = read_training(joint.dataset)  # as a checkpoint's config says it
        for read in (joint.sources[1].read, again.sources[1].read):
            one, other = plain.sources[1].read.records, read.records
            assert [one[i].image_label for i in range(6)] == [other[i].image_label for i in range(6)]
            assert [one[i].source.read_bytes() for i in range(6)] == [other[i].source.read_bytes() for i in range(6)]
    counts = [
        compute_coverage(load_dataset_config(zoo / f"{name}.yaml"), str(zoo / "zoo.txt"), plain.labels)
        for name in ("packed", "joint")
    ]
    assert counts[0][1].counts.tolist() == counts[1][1].counts.tolist()


def test_shards_have_no_boxes(zoo):
    write_shards(image_folder(zoo / "kinds"), "train", zoo / "shards", ShardOptions())
    (zoo / "joint.yaml").write_text(
        f"labels: {{tree: {zoo / 'zoo.txt'}}}\nsources: [{{dataset: shards/shards.yaml, use: boxes}}]\n"
    )
    with pytest.raises(ConfigError, match="of kind shards; it has no boxes: use `use: images`"):
        load_dataset_config(zoo / "joint.yaml")


@pytest.mark.parametrize("name", ["data.yaml", "set.data", "annotations.json", "train.txt"])
def test_a_source_in_the_file_of_a_tool(zoo, name):
    folder = zoo / "tool"
    (folder / "images").mkdir(parents=True)
    Image.new("RGB", (40, 20)).save(folder / "images" / "a.jpg")
    (folder / "images" / "a.txt").write_text("0 .5 .5 .2 .2\n")
    (folder / "data.yaml").write_text("train: images\nval: images\nnames: [dog]\n")
    (folder / "set.data").write_text("train = train.txt\nnames = set.names\n")
    (folder / "set.names").write_text("dog\n")
    (folder / "train.txt").write_text("images/a.jpg\n")
    coco = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 20}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 9, 9]}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (folder / "annotations.json").write_text(json.dumps(coco))
    (source, _) = read_training(change(zoo, dataset=f"tool/{name}")).sources
    assert len(source.read.records) == 1
    with pytest.raises(ConfigError, match=r"sources\.1: .* is a file of boxes"):
        change(zoo, 1, dataset=f"tool/{name}")
