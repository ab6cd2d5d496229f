import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.config import (
    Config,
    DatasetConfig,
    JointConfig,
    Override,
    dump,
    load_config,
    load_dataset_config,
    with_overrides,
)
from yolo9k.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def refused(source, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(source, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_nothing_is_all_defaults(write):
    assert load_config(None) == load_config(write("")) == Config()


def test_values_over_defaults(write):
    config = load_config(write("train: {lr: 1e-3, batch: 8}\ndata: {size: 416x320, sizes: [320, 352]}\n"))
    assert config.train.lr == 0.001  # which PyYAML reads as text
    assert config.train.batch == 8
    assert config.train.momentum == 0.9
    assert config.data.size == (416, 320)
    assert config.data.training_sizes == ((320, 320), (352, 352))


def test_extends_lays_section_on_section(write):
    write("train: {lr: 0.5, batch: 8}\nmodel: {width: 0.5}\n", "base.yaml")
    write("extends: base.yaml\ntrain: {lr: 0.25}\n", "middle.yaml")
    config = load_config(write("extends: middle.yaml\nmodel: {name: yolov2-tiny}\n"), ["train.seed=3"])
    assert (config.train.lr, config.train.batch, config.train.seed) == (0.25, 8, 3)
    assert (config.model.name, config.model.width) == ("yolov2-tiny", 0.5)


def test_extends_the_catalogue(write):
    assert load_config(write("extends: voc\ntrain: {batch: 8}\n")) == load_config("voc", ["train.batch=8"])


def test_extends_itself(write):
    write("extends: mine.yaml\n", "other.yaml")
    message = refused(write("extends: other.yaml\n"))
    assert "extends itself: mine.yaml -> other.yaml -> mine.yaml" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {lrr: 1}", "train.lrr: unknown key; did you mean train.lr?"),
        ("trian: {lr: 1}", "trian: unknown key; did you mean train?"),
        ("lr: 1", "lr: unknown key; did you mean train.lr?"),
        ("data: {augment: {foo: 1}}", "data.augment.foo: unknown key; did you mean data.augment.flip?"),
        ("train: {batch: many}", "train.batch: must be a whole number, not 'many'"),
        ("train: {batch: -4}", "train.batch: must be at least 1, not -4"),
        ("train: {lr: .inf}", "train.lr: must be a finite number, not inf"),
        ("train: {epochs: 1, steps: 1}", "train.epochs and steps: give only one"),
        ("train: {batch: 8, accumulate: 3}", "train.accumulate: must divide batch 8, not 3"),
        ("train: {patience: 5, eval_every: 0}", "train.patience: needs eval_every above 0"),
        ("train: [1]", "train: must be a section with keys (batch, accumulate, epochs, steps, …), not [1]"),
        ("train: {schedule: {policy: steps}}", "train.schedule.at: must have at least one entry with policy steps"),
        ("train: {schedule: {policy: line}}", "train.schedule.policy: must be 'constant', 'steps', 'poly'"),
        ("train: {schedule: {at: [2, 1], scales: [1, 1]}}", "train.schedule.at: must increase"),
        ("train: {schedule: {at: [2]}}", "train.schedule.scales: must have as many entries as at (1), not 0"),
        ("data: {size: 100}", "data.size: width and height must be multiples of 32, not 100x100"),
        ("data: {size: big}", "data.size: must be N or WIDTHxHEIGHT"),
        ("data: {sizes: [320, 10]}", "data.sizes: width and height must be multiples of 32, not 10x10"),
        ("data: {augment: {scale: [2, 1]}}", "data.augment.scale: must be [min, max], not [2.0, 1.0]"),
        ("data: {dataset: {kind: voc}}", "data.dataset.root: is missing"),
        ("model: {anchors: []}", "model.anchors: must have at least one anchor"),
        ("model: {location: rpn}", "model.location: must be 'direct' or 'offset', not 'rpn'"),
        (
            "model: {name: darknet, cfg: '[net]', location: offset}",
            "model.location: must be direct with a Darknet cfg",
        ),
        (
            "model: {name: yolov3}",
            "model.name: must be 'yolov2', 'yolov2-tiny', 'yolov2-tiny-voc', 'yolo9000' or 'darknet', not 'yolov3'",
        ),
        ("- 1", "must be a mapping of keys to values, not a list"),
        ("a: [1", "mine.yaml:1: not YAML"),
        ("a: b: c", "mine.yaml:1: not YAML"),
        ("a: !!python/object:os.system {}", "mine.yaml:1: not YAML: could not determine a constructor"),
        ("a: 2001-99-99", "mine.yaml: cannot be read: month must be in 1..12"),
        ("1: 2", "1: "),
        ("extends: nothing", "nothing: no such config file, and not in the catalogue"),
        ("extends: [voc]", "no such config file"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write, text, message):
    found = refused(write(text))
    assert message in found
    assert "mine.yaml" in found or "nothing" in found or "voc" in found


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00\x01")
    assert "mine.yaml: cannot be read" in refused(tmp_path / "mine.yaml")


def test_a_name_that_is_near(write):
    assert "did you mean voc?" in refused("vco")
    assert "the catalogue has " in refused("zzzzzz")
    assert refused("").startswith("no config given; use a path or one of ")


@pytest.mark.parametrize("override", ["oops", "=3", "", " =3"])
def test_an_override_that_is_none(override):
    assert refused(None, override).endswith("must be KEY=VALUE, for example --set train.lr=0.0005")


def test_overrides_are_yaml():
    config = load_config(None, ["train.lr=1e-4", "model.anchors=[[1,2],[3,4]]", "train.epochs=null", "train.device=0"])
    assert config.train.lr == 1e-4
    assert config.model.anchors == ((1, 2), (3, 4))
    assert config.train.epochs is None
    assert config.train.device == "0"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["train.lrr=1"], "--set train.lrr=1: unknown key; did you mean train.lr?"),
        (["train={lrr: 1}"], "--set train={lrr: 1}: train.lrr: unknown key; did you mean train.lr?"),
        (["train.schedule=foo"], "train.schedule=foo: must be a section with keys (policy, at, scales, unit, …)"),
        (["data.workers=-1"], "--set data.workers=-1: must be 'auto' or at least 0, not -1"),
        (["train.batch=8", "train.accumulate=3"], "--set train.accumulate=3: must divide batch 8, not 3"),
        (
            ["train.accumulate=2", "train.batch=3"],
            "--set train.batch=3: train.accumulate: must divide batch 3",
        ),
        (["train.batch=0", "train.lr=x"], "--set train.batch=0: must be at least 1, not 0"),
        (["train.steps=3"], "--set train.steps=3: train.epochs and steps: give only one"),
        (["train.steps=3", "train.epochs=null", "train.lr=0"], "--set train.lr=0: must be more than 0, not 0"),
        (["model.anchors=[[1, -2]]"], "--set model.anchors=[[1, -2]]: model.anchors.0.1: must be more than 0, not -2"),
        ([Override("data.size", 50, "--size 50")], "--size 50: width and height must be multiples of 32, not 50x50"),
    ],
)
def test_an_error_names_the_override_that_made_it(write, overrides, message):
    found = refused(write("train: {epochs: 3}"), *overrides)
    assert message in found
    assert found.startswith("--")
    assert "mine.yaml" not in found


def test_an_error_of_the_file_is_not_blamed_on_overrides(write):
    found = refused(write("train: {batch: 0}"), "train.lr=1", "train.seed=-1")
    assert found.endswith("mine.yaml: train.batch: must be at least 1, not 0 (and 1 more)")
    assert load_config(write("train: {batch: 0}"), ["train.batch=1"]).train.batch == 1


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ("{}", ["train.batch=0", "train.batch=0"], "--set train.batch=0: must be at least 1, not 0"),
        ("{}", ["train.lrr=1", "train.lrr=2"], "--set train.lrr=2: unknown key; did you mean train.lr?"),
        ("train: {batch: 0, lr: -1}", ["train.batch=4"], "mine.yaml: train.lr: must be more than 0, not -1"),
        (
            "train: {batch: 0, epochs: 3, steps: 9}",
            ["train.batch=4"],
            "mine.yaml: train.epochs and steps: give only one",
        ),
        ("train: {batch: 0}", ["train={lr: 1}", "train.schedule={}"], "mine.yaml: train.batch: must be at least 1"),
    ],
)
def test_who_is_to_blame(write, text, overrides, message):
    assert message in refused(write(text), *overrides)


def test_later_overrides_win():
    assert load_config(None, ["train.lr=1", "train.lr=2"]).train.lr == 2


def test_overrides_of_a_made_config():
    config = load_config("voc")
    assert with_overrides(config, []) == config
    assert with_overrides(config, ["train.batch=8"]) == load_config("voc", ["train.batch=8"])
    with pytest.raises(ConfigError, match=r"^--set train.batch=x: must be a whole number, not 'x'$"):
        with_overrides(config, ["train.batch=x"])


@given(
    lr=st.floats(1e-9, 1e6), seed=st.integers(0, 2**63 - 1), device=st.text(st.characters(codec="utf-8"), max_size=20),
    sizes=st.lists(st.tuples(st.integers(1, 20), st.integers(1, 20))), ema=st.floats(0, 0.999999),
)  # fmt: skip
def test_what_is_written_reads_back(lr, seed, device, sizes, ema):
    config = Config.model_validate(
        {
            "train": {"lr": lr, "seed": seed, "device": device, "ema": ema},
            "data": {"sizes": [(w * 32, h * 32) for w, h in sizes]},
        }
    )
    assert Config.model_validate(yaml.safe_load(dump(config))) == config


def test_a_data_set_is_named_by_its_file(write):
    path = write("kind: yolo\nroot: /x\nsplits: {train: [images]}\n", "birds.yaml")
    dataset = load_dataset_config(path)
    assert dataset.name == "birds"
    assert load_dataset_config(dataset) is dataset
    named = write("kind: yolo\nroot: /x\nname: mine\nsplits: {train: [images]}\n", "other.yaml")
    assert load_dataset_config(named).name == "mine"


def test_labels_may_look_like_numbers(write):
    path = write("kind: yolo\nroot: /x\nlabels: [7, up, 1.5]\nsplits: {train: [images]}\n")
    assert load_dataset_config(path).labels == ("7", "up", "1.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: voc\nsplits: {train: [a]}", "root: is missing"),
        (
            "kind: xml\nroot: a\nsplits: {train: [a]}",
            "kind: must be 'voc', 'coco', 'yolo', 'folder' or 'shards', not 'xml'",
        ),
        ("kind: voc\nroot: a\nsplits: {}", ": splits: must have at least one"),
        ("kind: voc\nroot: a\nsplits: {val: [a]}\nholdout: 0.1", ": holdout: must be 0 if there is a val split"),
        ("kind: voc\nroot: a\nsplits: {test: [a]}\nholdout: 0.1", ": holdout: needs a train split"),
        ("kind: voc\nroots: a\nsplits: {train: [a]}", "roots: unknown key; did you mean root?"),
    ],
)
def test_wrong_data_sets(write, text, message):
    with pytest.raises(ConfigError) as caught:
        load_dataset_config(write(text))
    assert message in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_configs_cannot_be_changed():
    for model in (Config(), DatasetConfig(kind="voc", root="a", splits={"train": ("a",)})):
        with pytest.raises(ValueError, match="frozen"):
            model.name = "b"


# --- joint data sets

JOINT = "labels: {tree: a.txt}\nsources:\n- {dataset: coco, use: boxes}\n"


def test_sources_are_found_in_the_catalogue_beside_the_file_and_as_folders(write, tmp_path, monkeypatch):
    write("kind: folder\nroot: /x\nsplits: {train: [.]}\n", "kinds.yaml")
    (tmp_path / "images").mkdir()
    monkeypatch.chdir("/")
    joint = load_dataset_config(
        write(JOINT + "- {dataset: kinds.yaml, use: images, weight: 4}\n- {dataset: images, use: images}\n")
    )
    assert isinstance(joint, JointConfig)
    assert (joint.name, [source.weight for source in joint.sources]) == ("mine", [1, 4, 1])
    coco, kinds, images = (source.dataset for source in joint.sources)
    assert coco == load_dataset_config("coco")
    assert (kinds.kind, kinds.name) == ("folder", "kinds")
    assert images == str(tmp_path / "images")
    assert load_dataset_config(joint) == joint
    assert JointConfig.model_validate(yaml.safe_load(dump(joint))) == joint


def test_a_joint_set_may_stand_in_a_training_config(write):
    config = load_config(
        write("data:\n  dataset:\n    labels: {tree: a.txt}\n    sources: [{dataset: coco, use: boxes}]\n")
    )
    assert isinstance(config.data.dataset, JointConfig)
    assert Config.model_validate(yaml.safe_load(dump(config))) == config
    joint = load_dataset_config(config.data.dataset)
    assert joint.sources[0].dataset == load_dataset_config("coco")
    changed = with_overrides(config, ["data.dataset.labels.tree=b.txt"])
    assert changed.data.dataset.labels.tree == "b.txt"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (JOINT.replace("use: boxes", "use: images"), ": sources: at least one must have `use: boxes`"),
        ("sources: []\nlabels: {tree: a}", ": sources: at least one must have `use: boxes`"),
        (JOINT.replace("boxes", "box"), "sources.0.use: must be 'boxes' or 'images', not 'box'"),
        (JOINT.replace("boxes", "boxes, weight: 0"), "sources.0.weight: must be at least 1, not 0"),
        (JOINT.replace("boxes", "boxes, weights: 2"), "sources.0.weights: unknown key; did you mean sources.0.weight?"),
        (JOINT.replace("coco", "{kind: xml, root: a, splits: {}}"), "sources.0.dataset.kind: must be 'voc', 'coco'"),
        (JOINT.replace("coco", "cocoa"), "sources.0: cocoa: no such data set file, and not in the catalogue"),
        (JOINT.replace("coco", "''"), "sources.0: no data set given"),
        (JOINT.replace("coco", "mine.yaml"), "sources.0: mine.yaml is a joint data set; list its sources"),
        (JOINT + "- {dataset: coco, use: images}\n", "sources.1: data set coco is of kind coco; `use: im"),
        (
            JOINT.replace("coco", "{kind: folder, root: x, splits: {a: [.]}}"),
            "sources.0: data set x is of kind folder",
        ),
        (
            JOINT + "val: {dataset: {kind: folder, root: x, splits: {a: [.]}}}\n",
            "val: data set x is of kind folder",
        ),
        (JOINT + "val: {dataset: nowhere}\n", "val: nowhere: no such data set file"),
        (JOINT.replace("tree: a.txt", "map: a.map"), "labels.map must be given per source"),
        ("sources:\n- {dataset: coco, use: boxes}\n", "labels: is missing"),
    ],
)
def test_wrong_joint_sets(write, text, message):
    with pytest.raises(ConfigError) as caught:
        load_dataset_config(write(text))
    assert message in str(caught.value)
    assert "mine.yaml: " in str(caught.value)
    assert str(caught.value).count("\n") == 0


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("{tree: a, nams: {}}", "labels.nams: unknown key; did you mean labels.names?"),
        ("{map: a}", "labels.tree: is missing"),
        ("cat", "labels: must be a list, not 'cat'"),
        ("{tree: a, on_unknown: guess}", "labels.on_unknown: must be 'stop' or 'skip', not 'guess'"),
    ],
)
def test_wrong_labels(write, labels, message):
    with pytest.raises(ConfigError) as caught:
        load_dataset_config(write(f"kind: voc\nroot: a\nsplits: {{train: [a]}}\nlabels: {labels}\n"))
    assert message in str(caught.value)


def test_labels_over_a_tree(write):
    text = "kind: voc\nroot: a\nsplits: {train: [a]}\nlabels: {tree: t.txt, names: {7: x, y: ''}, classes: [7, y]}\n"
    dataset = load_dataset_config(write(text))
    assert dataset.labels.names == {"7": "x", "y": ""}
    assert dataset.classes == ("7", "y")
    assert DatasetConfig.model_validate(yaml.safe_load(dump(dataset))) == dataset


def test_an_error_that_a_later_override_fixes_is_not_reported():
    overrides = ["train.steps=9", "train.batch=6", "train.accumulate=4", "train.steps=null", "train.epochs=2"]
    with pytest.raises(ConfigError, match=r"train\.accumulate=4: must divide batch 6, not 4"):
        load_config(None, ["train.epochs=3", *overrides])
