"""Old names of config keys: the new name is used, and one warning names both."""

import pytest

from yolo9k.config import load_classifier_config, load_config, load_dataset_config, load_run_config
from yolo9k.renamed import KEYS, LAST_VERSION, with_new_names, with_new_options


@pytest.fixture
def warnings(caplog):
    """Return the warnings so far, without the file or option that they name first."""

    def get():
        return [message.rpartition(": ")[2] for message in caplog.messages]

    return get


def message(old, new):
    return f"{old} is now {new}; the old name works up to version {LAST_VERSION}"


@pytest.mark.parametrize(
    ("text", "old", "new", "value"),
    [
        ("train: {burn_in: 7}", "train.burn_in", "train.warmup", 7),
        ("train: {burn_in_power: 2.0}", "train.burn_in_power", "train.warmup_power", 2.0),
        ("train: {freeze: backbone, freeze_as: still}", "train.freeze_as", "train.freeze_mode", "frozen"),
        ("loss: {warmup_images: 5}", "loss.warmup_images", "loss.anchor_warmup", 5),
        ("data: {augment: {recipe: crop}}", "data.augment.recipe", "data.augment.geometry", "crop"),
    ],
)
def test_a_key_in_a_file(tmp_path, warnings, text, old, new, value):
    path = tmp_path / "old.yaml"
    path.write_text(text)
    config = load_config(path)
    for name in new.split("."):
        config = getattr(config, name)
    assert config == value
    assert warnings() == [message(old, new)]


def test_a_warning_names_the_file(tmp_path, caplog):
    path = tmp_path / "old.yaml"
    path.write_text("train: {burn_in: 7}")
    load_config(path)
    assert caplog.messages == [f"{path}: {message('train.burn_in', 'train.warmup')}"]


def test_a_key_in_an_extended_file(tmp_path, warnings):
    (tmp_path / "base.yaml").write_text("train: {burn_in: 7, batch: 8}")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ntrain: {lr: 0.1}")
    train = load_config(tmp_path / "mine.yaml").train
    assert (train.warmup, train.batch, train.lr) == (7, 8, 0.1)
    assert warnings() == [message("train.burn_in", "train.warmup")]


def test_a_new_key_over_an_old_one_of_the_extended_file(tmp_path):
    (tmp_path / "base.yaml").write_text("train: {burn_in: 7}")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ntrain: {warmup: 9}")
    assert load_config(tmp_path / "mine.yaml").train.warmup == 9
    (tmp_path / "mine.yaml").write_text("extends: other.yaml\ntrain: {burn_in: 9}")
    (tmp_path / "other.yaml").write_text("train: {warmup: 7}")
    assert load_config(tmp_path / "mine.yaml").train.warmup == 9


def test_a_key_in_an_override(caplog):
    assert load_config(None, ["train.burn_in=7"]).train.warmup == 7
    assert caplog.messages == [f"--set train.burn_in=7: {message('train.burn_in', 'train.warmup')}"]


@pytest.mark.parametrize("override", ["train={burn_in: 7}", "train.freeze_mode=still", "train={freeze_as: still}"])
def test_a_key_or_value_inside_an_override(override):
    train = load_config(None, ["train.freeze=backbone", override]).train
    assert (train.warmup, train.freeze_mode) in [(7, "frozen"), (1000, "frozen")]


def test_a_key_in_a_list_of_an_override(warnings):
    config = load_classifier_config(None, ["stages=[{burn_in: 3}, {warmup: 4}]"])
    assert [stage.warmup for stage in config.stages] == [3, 4]
    assert warnings() == [message("stages.*.burn_in", "stages.*.warmup")]


def test_a_key_in_the_sources_of_a_joint_data_set(zoo, warnings):
    path = zoo / "joint.yaml"
    path.write_text(path.read_text().replace("weight: 2", "share: 2"))
    assert [source.weight for source in load_dataset_config(str(path)).sources] == [1, 2]
    assert warnings() == [message("sources.*.share", "sources.*.weight")]


def test_a_joint_data_set_inside_a_config(zoo, warnings):
    sources = f"[{{dataset: {zoo / 'boxes.yaml'}, use: boxes}}, {{dataset: {zoo / 'kinds'}, use: images, share: 2}}]"
    (zoo / "run.yaml").write_text(f"data: {{dataset: {{labels: {{tree: {zoo / 'zoo.txt'}}}, sources: {sources}}}}}\n")
    assert [source.weight for source in load_run_config(zoo / "run.yaml").data.dataset.sources] == [1, 2]
    assert warnings() == [message("data.dataset.sources.*.share", "data.dataset.sources.*.weight")]


def test_if_both_names_are_given_the_new_one_is_used():
    assert with_new_names({"train": {"burn_in": 3, "warmup": 4}}) == {"train": {"warmup": 4}}


def test_checkpoints_are_renamed_without_a_warning(caplog):
    assert with_new_names({"train": {"freeze_as": "still"}}) == {"train": {"freeze_mode": "frozen"}}
    assert caplog.messages == []


def test_other_names_are_kept():
    values = {"burn_in": 1, "data": {"burn_in": 2}, "train": {"lr": 3}, "stages": [{"size": 4}, "text"]}
    assert with_new_names(values, "file") == values
    assert not set(KEYS.values()) & set(KEYS)


def test_options(caplog):
    assert with_new_options(["detect", "--max=9", "--max", "9", "a.jpg", "--maximum"]) == [
        "detect", "--max-detections=9", "--max-detections", "9", "a.jpg", "--maximum",
    ]  # fmt: skip
    assert caplog.messages[0] == message("--max", "--max-detections")
