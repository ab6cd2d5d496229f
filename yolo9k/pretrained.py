"""Open weights of any origin (run, checkpoint, Darknet file, catalogue) as a `Checkpoint`; write Darknet files."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yolo9k import checkpoint
from yolo9k.build import ClassifierNetwork, Network, build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import ClassifierConfig, Config, RunConfig
from yolo9k.darknet import catalogue
from yolo9k.darknet.cfg import Cfg, parse_cfg, read_cfg
from yolo9k.darknet.label_files import load_labels, read_data_file
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.recipe import config_from_cfg
from yolo9k.darknet.weights import Header, conv_layers, read_header, write_weights
from yolo9k.darknet.writer import cfg_text, classifier_cfg_text
from yolo9k.errors import ConfigError, WeightsError, shorten
from yolo9k.io import check_regular, exists, expanded, is_file, is_folder, unreachable, write_text
from yolo9k.models.darknet19 import Classifier
from yolo9k.models.yolov2 import DetectionNetwork
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.files import label_texts

LOG = logging.getLogger(__name__)
COMPANIONS = (".cfg", ".names", ".tree")


@dataclass(frozen=True)
class DarknetFiles:
    """The files that describe a Darknet weights file: cfg, class names, tree, or Darknet's `.data`.

    `strict`: cfg warnings are errors.
    """

    cfg: str | Path | None = None
    names: str | Path | None = None
    tree: str | Path | None = None
    data: str | Path | None = None
    strict: bool = False

    def refuse(self, source: str | Path, kind: str) -> None:
        """Raise `ConfigError` if a file is given for a source that is not a Darknet weights file."""
        for option in ("cfg", "names", "tree", "data"):
            if getattr(self, option) is not None:
                raise ConfigError(f"--{option}: is only for Darknet weights files; {source} is {kind}")


def open_weights(source: str | Path, files: DarknetFiles | None = None, track: Track = silent) -> Checkpoint:
    """Open what `--weights` names: a run folder, a checkpoint, a Darknet file (with its `files`), or a catalogue name.

    A catalogue model is downloaded if it is missing, and so are the cfg and names of a local file with the name and
    size of one. Raises `WeightsError` if the source is missing or wrong, `ConfigError` for unused `files`.
    """
    files = files or DarknetFiles()
    path = expanded(str(source))
    if is_folder(path):
        files.refuse(source, "a run")
        return checkpoint.load(checkpoint.find(path))
    if is_file(path):
        if not checkpoint.is_checkpoint(path):
            return _from_darknet(path, files, track)
        files.refuse(source, "a checkpoint")
        return checkpoint.load(path)
    entry = catalogue.find(str(source))
    if entry is None:
        if exists(path):
            check_regular(path, WeightsError.at)
        missing = f"no such file or run, and not in the catalogue; {catalogue.suggest(str(source))}"
        raise WeightsError(f"{source}: {unreachable(path) or missing}")
    files.refuse(source, "a catalogue model, which has its own")
    fetched = catalogue.download(entry, track)
    return _from_darknet(fetched.weights, DarknetFiles(fetched.cfg, fetched.names, fetched.tree))


def _from_darknet(path: Path, files: DarknetFiles, track: Track = silent) -> Checkpoint:
    """Read a weights file with its cfg; `.cfg` and `.names` files beside it are the defaults."""
    read_header(path)  # fail first if it is not a weights file
    cfg_path, names, tree = _texts(path, files, track)
    cfg = read_cfg(cfg_path, strict=files.strict)
    cfg.check_channels()
    cfg.log_warnings()
    labels = load_labels(cfg, tree, names)
    network = DarknetNetwork(cfg, labels)
    loaded = network.read(path)
    header = loaded.header
    origin = {
        "major": header.major, "minor": header.minor, "revision": header.revision, "seen": header.seen,
        "blocks": loaded.layer_count,
    }  # fmt: skip
    labels = labels or _unnamed_labels(network.classes)
    checkpoint.log_weight_warnings(network.state_dict(), path)
    return Checkpoint(_config_of(cfg), labels, network.state_dict(), darknet=origin)


def _config_of(cfg: Cfg) -> RunConfig:
    """Return the config of a cfg; an invalid option of training alone is a warning, since weights are not trained."""
    try:
        return config_from_cfg(cfg)
    except WeightsError as error:
        config = config_from_cfg(cfg, training=False)
        LOG.warning("%s; the network runs without the options of training", error)
        return config


def _texts(path: Path, files: DarknetFiles, track: Track) -> tuple[str | Path, str | Path | None, str | Path | None]:
    """Return the cfg of a weights file, and its names and tree if known."""
    named = {} if files.data is None else read_data_file(files.data)
    cfg = files.cfg or _companion(path, ".cfg")
    names = files.names or named.get("names") or _companion(path, ".names")
    tree = files.tree or named.get("tree")
    if cfg is None:
        official = catalogue.find(path.name)
        if official is None or path.stat().st_size not in official.weights.remote.sizes:
            raise WeightsError(f"{path}: a Darknet file needs its cfg (--cfg)")
        try:
            texts = catalogue.download_texts(official, track)
        except WeightsError as error:
            raise WeightsError(f"{path}: a Darknet file needs its cfg (--cfg); {error}") from error
        cfg, names, tree = texts.cfg, names or texts.names, tree or texts.tree
    return cfg, names, tree


def _companion(path: Path, suffix: str) -> Path | None:
    """Return the file with the same name and another suffix, if it exists."""
    other = path.with_suffix(suffix)
    return other if other != path and exists(other) else None


def _unnamed_labels(classes: int) -> WordTree:
    """Return a label set with the indices as names, for a model without class names."""
    return WordTree.flat([str(index) for index in range(classes)])


def are_unnamed(labels: WordTree) -> bool:
    """Return whether the labels are the indices that stand for unknown class names."""
    return labels == _unnamed_labels(len(labels))


def build_stored(stored: Checkpoint, source: str | Path) -> Network | ClassifierNetwork:
    """Build the network of a checkpoint and load its weights. Raises `WeightsError` if they do not fit."""
    try:
        network = _build(stored.config, stored.labels)
    except (ConfigError, WeightsError) as error:
        raise WeightsError(f"{source}: {error}") from error
    try:
        network.load_state_dict(dict(stored.weights))
    except RuntimeError as error:
        raise WeightsError(f"{source}: the weights do not fit the model in the file's config") from error
    return network


def _build(config: RunConfig, labels: WordTree) -> Network | ClassifierNetwork:
    if isinstance(config, ClassifierConfig):
        return build_classifier(config.model, labels)
    return build_network(config.model, labels)


def build_detector(stored: Checkpoint, source: str | Path) -> tuple[Network, Config]:
    """Build a detector with its weights; return it with its config.

    Raises `WeightsError` for a classifier, for a partial file, and if its label tree is missing.
    """
    network, config = build_stored(stored, source), stored.config
    if isinstance(config, ClassifierConfig) or isinstance(network, Classifier):
        raise WeightsError(
            f"{source}: a classifier, not a detector; run it with yolo9k classify, or start a training from it "
            f"(yolo9k train --weights)"
        )
    _check_whole(stored, network, source)
    return network, config


def build_whole_classifier(stored: Checkpoint, source: str | Path) -> tuple[ClassifierNetwork, ClassifierConfig]:
    """Build a classifier with its weights; return it with its config. Raises as `build_detector`."""
    network, config = build_stored(stored, source), stored.config
    if isinstance(config, Config) or isinstance(network, DetectionNetwork):
        raise WeightsError(f"{source}: a detector, not a classifier; run it with yolo9k detect")
    _check_whole(stored, network, source)
    return network, config


def _check_whole(stored: Checkpoint, network: Network | ClassifierNetwork, source: str | Path) -> None:
    if stored.darknet is not None and stored.darknet["blocks"] < (total := len(conv_layers(network))):
        raise WeightsError(
            f"{source}: a partial file with {stored.darknet['blocks']} of {total} layers; "
            f"use it to start a training (yolo9k train --weights)"
        )
    check_tree(stored, source)


def check_tree(stored: Checkpoint, source: str | Path) -> None:
    """Raise `WeightsError` if the label tree that the cfg names is missing: labels would be meaningless indices."""
    if stored.config.model.name != "darknet" or not are_unnamed(stored.labels):
        return
    section = parse_cfg(stored.config.model.cfg).label_section
    if section is not None and "tree" in section.values:
        raise WeightsError(
            f"{source}: the label tree of its cfg, {shorten(section.values['tree'])}, is missing; give it with --tree"
        )


class WrittenFile(NamedTuple):
    """A file that was written; `note`: what differs from the original."""

    path: Path
    note: str = ""


def write_darknet(stored: Checkpoint, source: str | Path, target: Path) -> list[WrittenFile]:
    """Write a checkpoint as Darknet weights with cfg, names and tree beside them; unnamed labels get no file.

    Files that came from Darknet are written unchanged: weights byte for byte, the cfg except for the path of its tree.
    Raises `WeightsError` if a cfg cannot express the model, `DataError` if a `.tree` file cannot express the labels,
    `MachineError` if a file cannot be written.
    """
    if target.suffix in COMPANIONS:
        raise WeightsError(f"{target}: the suffix of a file beside the weights; use for example {target.stem}.weights")
    check_tree(stored, source)
    network = build_stored(stored, source)
    tree = target.with_suffix(".tree").name if _needs_tree(stored, network) else ""
    if len(tree.split()) > 1:
        raise WeightsError(f"{target}: a cfg cannot name a tree whose file name has spaces; use a name without")
    cfg, note = _cfg_of(network, stored.config, tree)
    chosen = conv_layers(network)
    header = Header(seen=int((stored.training or {}).get("seen", 0)))
    if stored.darknet is not None:
        origin = dict(stored.darknet)
        chosen = chosen[: origin.pop("blocks")]
        header = Header(**origin)
    texts = {".cfg": cfg, **_label_texts(stored.labels, tree)}
    write_weights(target, chosen, header)
    for suffix, text in texts.items():
        write_text(target.with_suffix(suffix), text)
    return [WrittenFile(target), *(WrittenFile(target.with_suffix(s), note if s == ".cfg" else "") for s in texts)]


def _needs_tree(stored: Checkpoint, network: Network | ClassifierNetwork) -> bool:
    section = network.cfg.label_section if isinstance(network, DarknetNetwork) else None
    return not stored.labels.is_flat or (section is not None and "tree" in section.values)


def _cfg_of(network: Network | ClassifierNetwork, config: RunConfig, tree: str) -> tuple[str, str]:
    """Return the cfg text with the new name of its tree, and a note on what changed."""
    if isinstance(network, Classifier):
        assert isinstance(config, ClassifierConfig)
        return classifier_cfg_text(network, config, tree), ""
    if isinstance(network, DetectionNetwork):
        assert isinstance(config, Config)
        return cfg_text(network, config, tree), ""
    section = network.cfg.label_section
    if section is None or not tree or section.values["tree"] == tree:
        return network.cfg.text, ""
    notes = [f"tree={tree} (was tree={section.values['tree']})"]
    if "map" in section.values:
        notes.append(f"map={section.values['map']} is unchanged; that file is not part of a checkpoint")
    return network.cfg.text_with(section, "tree", tree), "; ".join(notes)


def _label_texts(labels: WordTree, tree: str) -> dict[str, str]:
    named = () if are_unnamed(labels) else (".names",)
    return label_texts(labels, (*named, ".tree") if tree else named)
