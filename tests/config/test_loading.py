import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from yolo9k.config import (
    ClassifierConfig,
    Config,
    DatasetConfig,
    JointConfig,
    Override,
    dump,
    load_config,
    load_dataset_config,
    with_overrides,
)
from yolo9k.config.loading import _validate
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
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 1000
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
        ("train: {batch: true}", "train.batch: must be a number, not true"),
        ("train: {epochs: false}", "train.epochs: must be a number, not false"),
        ("data: {augment: {scale: [1e-300, 1e300]}}", "data.augment.scale.0: must be at least 0.001"),
        ("train: {epochs: 1e308}", "train.epochs: must be at most 1000000000"),
        ("data: {workers: 100000}", "data.workers: must be "),
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
        ("a: [1", "mine.yaml:2: not YAML"),
        ("a: b: c", "mine.yaml:1: not YAML"),
        ("a: !!python/object:os.system {}", "mine.yaml:1: the tag 'python/object:os.system' is not supported"),
        ("train: {batch: 2001-99-99}", "train.batch: must be a whole number, not '2001-99-99'"),
        (f"train: {{batch: {'9' * 5000}}}", "mine.yaml:1: 99999999999999999999… is too long for a number"),
        ("[" * 3000, "mine.yaml:1: not YAML: exceeded maximum nesting depth"),
        ("data: " + "{a: " * 200 + "}" * 200, "mine.yaml:1: nested more than 100 levels deep"),
        ("a: 1\na: 2", "mine.yaml:2: the key 'a' occurs twice"),
        ("{? " + "x" * 50_000 + " : 1}", "xxx…xxx"),
        ("model: {name: " + "x" * 50_000 + "}", "xxx…xxx"),
        ('"a\\e[31m\\nb": 1', r"a\x1b[31m\nb: unknown key"),
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
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "mine.yaml: not a text file: byte 2 (0x00, line 1) is not UTF-16" in refused(path)
    path.write_bytes(b"#" * (1 << 23))
    assert "mine.yaml: 8,388,608 bytes; at most 4,194,304 are allowed" in refused(path)
    path.unlink()
    os.mkfifo(path)
    assert refused(path) == f"{path}: is a named pipe; a file is needed"


@pytest.mark.parametrize("name", ["~nosuchuser/a.yaml", "x" * 5000, "a\x00b", "http://[", "\x1b[31m"])
def test_names_that_cannot_be_a_path(write, name):
    assert "no such config file" in refused(name)
    assert "no such config file" in refused(write(f"extends: {json.dumps(name)}"))


def test_many_files_that_extend_each_other(write):
    for index in range(30):
        write(f"extends: {index + 1}.yaml", f"{index}.yaml")
    assert "more than 20 files extend each other: mine.yaml -> 0.yaml -> 1.yaml" in refused(write("extends: 0.yaml"))


NAMES = ["no", "yes", "12:30", "007", "1e3", "~", "2020-01-01", "0x1f", "on", "off", "1_000", "null", "true", ".5"]


def test_names_in_a_data_set_config_stay_as_written(write):
    listed = ", ".join(NAMES)
    text = f"kind: yolo\nroot: 007\nname: 1e3\nsplits: {{train: [{listed}], no: [1.0]}}\nlabels: [{listed}]\n"
    dataset = load_dataset_config(write(text))
    assert dataset.labels == dataset.splits["train"] == tuple(NAMES)
    assert (dataset.root, dataset.name, dataset.splits["no"]) == ("007", "1e3", ("1.0",))
    pairs = ", ".join(f"{name}: {name}" for name in NAMES)
    labels = f"labels: {{tree: 007, map: 1e3, names: {{{pairs}}}}}\n"
    dataset = load_dataset_config(write(f"kind: yolo\nroot: r\nsplits: {{train: [a]}}\n{labels}"))
    assert dataset.labels.names == dict(zip(NAMES, NAMES, strict=True))
    assert (dataset.labels.tree, dataset.labels.map) == ("007", "1e3")


@pytest.mark.parametrize("name", ["1e3", "007", "no", "12:30", "0x1f"])
def test_overrides_are_read_by_the_same_rules(name):
    config = load_config(None, [f"data.dataset={name}", f"train.device={name}", "train.deterministic=true"])
    assert (config.data.dataset, config.train.device) == (name, name)
    assert load_config(None, [f"data.dataset={{kind: yolo, root: {name}, splits: {{train: [{name}]}}, holdout: 0.5}}"])


@pytest.mark.parametrize(
    "override", [f"{'a.' * 5000}b=1", "train.lr=" + "[" * 3000, f"train.lr={'9' * 5000}", "a=b: c: d"]
)
def test_hostile_overrides(override):
    assert refused(None, override).startswith("--set ")


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


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)


@settings(deadline=None)
@given(
    st.dictionaries(texts, texts, max_size=4),
    st.lists(texts.filter(str.strip) | st.sampled_from(NAMES), max_size=5, unique=True),
    texts,
)
def test_dumped_texts_are_read_back(names, classes, text):
    labels = {"tree": text, "map": text, "names": names, "classes": classes}
    dataset = DatasetConfig(kind="yolo", root=text, splits={text: (text,)}, labels=labels, name=text or "a")
    config = Config.model_validate(
        {
            "data": {"dataset": dataset},
            "train": {"lr_factors": dict.fromkeys([*names, *classes], 0.5), "freeze": [*classes, "x"], "device": text},
            "model": {"backbone": text},
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "dumped.yaml"
        path.write_text(dump(config), encoding="utf-8", newline="")
        assert load_config(path) == config
        path.write_text(dump(dataset), encoding="utf-8", newline="")
        assert load_dataset_config(path) == dataset


def keys_of(section: type[BaseModel], above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    keys = []
    for name, field in section.model_fields.items():
        keys.append((*above, name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            keys += keys_of(field.annotation, (*above, name))
    return keys


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**4000) | st.floats() | st.text() | st.text(min_size=5000),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.sampled_from([Config, ClassifierConfig, DatasetConfig, JointConfig]), st.data(), odd)
def test_wrong_types_at_every_key(kind, data, value):
    keys = data.draw(st.sampled_from(keys_of(kind)))
    values: Any = value
    for key in reversed(keys):
        values = {key: values}
    message = ""
    try:
        _validate(kind, values, "fuzz")
    except ConfigError as error:
        message = str(error)
    assert len(message) < 2000
    assert message.isprintable()


def test_a_missing_parent_names_the_file_that_extends_it(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: nope.yaml\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: extends: nope\.yaml: no such config file"):
        load_config(path)


def test_a_parent_that_is_no_config_names_the_file_that_extends_it(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: middle.yaml\n")
    (tmp_path / "middle.yaml").write_text("extends: list.txt\n")
    (tmp_path / "list.txt").write_text("[1, 2]\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: extends: \S+list\.txt: must be a mapping"):
        load_config(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("[cat, dog, cat]", "labels: class 0 and class 2 are both called 'cat'; class names must differ"),
        ("[cat, '']", "labels: the name of class 1 is empty"),
        ("{tree: t.txt, classes: [cat, cat]}", "labels: class 0 and class 1 are both called 'cat'"),
    ],
)
def test_class_names_of_a_config_differ(write, labels, message):
    path = write(f"kind: voc\nroot: a\nsplits: {{train: [a]}}\nlabels: {labels}\n")
    with pytest.raises(ConfigError, match=re.escape(f"{path}: {message}")):
        load_dataset_config(path)
