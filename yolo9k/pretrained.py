"""Weights of any origin as a `Checkpoint`: a run, a checkpoint, Darknet's files, a model of the catalogue; and back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yolo9k import checkpoint
from yolo9k.build import ClassifierNetwork, Network, build_classifier, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import ClassifierConfig, Config, RunConfig
from yolo9k.darknet import catalogue
from yolo9k.darknet.cfg import parse_cfg, read_cfg
from yolo9k.darknet.label_files import find_labels, read_data_file
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.recipe import config_of
from yolo9k.darknet.weights import Header, blocks, read_header, write_weights
from yolo9k.darknet.writer import cfg_text, classifier_cfg_text
from yolo9k.errors import ConfigError, MachineError, WeightsError
from yolo9k.models.darknet19 import Classifier
from yolo9k.models.yolov2 import DetectionNetwork
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.files import label_texts

BESIDE = (".cfg", ".names", ".tree")


@dataclass(frozen=True)
class DarknetFiles:
    """The files that say what a weights file is: its cfg, the names of its labels, its tree; or Darknet's `.data`.

    `strict`: warnings about the cfg are errors.
    """

    cfg: str | Path | None = None
    names: str | Path | None = None
    tree: str | Path | None = None
    data: str | Path | None = None
    strict: bool = False

    def refuse(self, source: str | Path, kind: str) -> None:
        """Raises `ConfigError` where a file is named for something that is no weights file of Darknet."""
        for option in ("cfg", "names", "tree", "data"):
            if getattr(self, option) is not None:
                raise ConfigError(f"--{option}: belongs to a weights file of Darknet; {source} is {kind}")


def open_weights(source: str | Path, files: DarknetFiles | None = None, track: Track = silent) -> Checkpoint:
    """What `--weights` means: a run folder, a checkpoint, a Darknet file (with its `files`), or a catalogue name.

    A model of the catalogue is fetched when it is not here, and so are the texts of a file that has the name and size
    of one. Raises `WeightsError` for what is not found or wrong, `ConfigError` for `files` that nobody asks for.
    """
    files = files or DarknetFiles()
    path = Path(source).expanduser()
    if _is(path.is_dir):
        files.refuse(source, "a run")
        return checkpoint.load(checkpoint.find(path))
    if _is(path.is_file):
        if not checkpoint.is_checkpoint(path):
            return _from_darknet(path, files, track)
        files.refuse(source, "a checkpoint")
        return checkpoint.load(path)
    entry = catalogue.find(str(source))
    if entry is None:
        raise WeightsError(
            f"{source}: no such file or run, and no model of the catalogue; {catalogue.near(str(source))}"
        )
    files.refuse(source, "a model of the catalogue, which has its own")
    fetched = catalogue.download(entry, track)
    return _from_darknet(fetched.weights, DarknetFiles(fetched.cfg, fetched.names, fetched.tree))


def _is(question: Callable[[], bool]) -> bool:
    """The answer about a path; no, where no path can be called so."""
    try:
        return question()
    except OSError:
        return False


def _from_darknet(path: Path, files: DarknetFiles, track: Track = silent) -> Checkpoint:
    """A weights file with its cfg; `path.cfg` and `path.names` beside it are taken where none are named."""
    read_header(path)  # first of all: is it such a file?
    cfg_path, names, tree = _texts(path, files, track)
    cfg = read_cfg(cfg_path, strict=files.strict)
    cfg.log_warnings()
    labels = find_labels(cfg, tree, names)
    network = DarknetNetwork(cfg, labels)
    loaded = network.read(path)
    header = loaded.header
    origin = {
        "major": header.major, "minor": header.minor, "revision": header.revision, "seen": header.seen,
        "blocks": loaded.blocks,
    }  # fmt: skip
    labels = labels or _numbered(network.classes)
    return Checkpoint(config_of(cfg), labels, network.state_dict(), darknet=origin)


def _texts(path: Path, files: DarknetFiles, track: Track) -> tuple[str | Path, str | Path | None, str | Path | None]:
    """The cfg of a weights file, and its names and tree where they are known."""
    named = {} if files.data is None else read_data_file(files.data)
    cfg = files.cfg or _beside(path, ".cfg")
    names = files.names or named.get("names") or _beside(path, ".names")
    tree = files.tree or named.get("tree")
    if cfg is None:
        official = catalogue.find(path.name)
        if official is None or path.stat().st_size not in official.weights.remote.sizes:
            raise WeightsError(f"{path}: a Darknet file needs its cfg; name it with --cfg")
        try:
            texts = catalogue.download_texts(official, track)
        except WeightsError as error:
            raise WeightsError(f"{path}: a Darknet file needs its cfg; name it with --cfg, for {error}") from error
        cfg, names, tree = texts.cfg, names or texts.names, tree or texts.tree
    return cfg, names, tree


def _beside(path: Path, suffix: str) -> Path | None:
    """The file of the same name with another suffix, where it is there."""
    other = path.with_suffix(suffix)
    return other if other != path and other.is_file() else None


def _numbered(classes: int) -> WordTree:
    """What labels are called as long as nobody names them."""
    return WordTree.flat([str(number) for number in range(classes)])


def build_stored(stored: Checkpoint, source: str | Path) -> Network | ClassifierNetwork:
    """The network of a checkpoint with its weights. Raises `WeightsError` where they do not fit."""
    network = _build(stored.config, stored.labels)
    try:
        network.load_state_dict(dict(stored.weights))
    except RuntimeError as error:
        raise WeightsError(f"{source}: the weights do not fit the model that the file describes") from error
    return network


def _build(config: RunConfig, labels: WordTree) -> Network | ClassifierNetwork:
    if isinstance(config, ClassifierConfig):
        return build_classifier(config.model, labels)
    return build_network(config.model, labels)


def build_detector(stored: Checkpoint, source: str | Path) -> tuple[Network, Config]:
    """The network of a detector with its weights, and its config.

    Raises `WeightsError` for a classifier, for a file that holds only some layers, and where its tree is missing.
    """
    network, config = build_stored(stored, source), stored.config
    if isinstance(config, ClassifierConfig) or isinstance(network, Classifier):
        raise WeightsError(
            f"{source}: a classifier, no detector; yolo9k classify runs it, and a training may start from it "
            f"(yolo9k train --weights)"
        )
    _check_whole(stored, network, source)
    return network, config


def build_whole_classifier(stored: Checkpoint, source: str | Path) -> tuple[ClassifierNetwork, ClassifierConfig]:
    """The network of a classifier with its weights, and its config. Raises `WeightsError` as `build_detector` does."""
    network, config = build_stored(stored, source), stored.config
    if isinstance(config, Config) or isinstance(network, DetectionNetwork):
        raise WeightsError(f"{source}: a detector, no classifier; yolo9k detect runs it")
    _check_whole(stored, network, source)
    return network, config


def _check_whole(stored: Checkpoint, network: Network | ClassifierNetwork, source: str | Path) -> None:
    if stored.darknet is not None and stored.darknet["blocks"] < (total := len(blocks(network))):
        raise WeightsError(
            f"{source}: a partial file with {stored.darknet['blocks']} of {total} layers; "
            f"it is where a training may start (yolo9k train --weights)"
        )
    check_tree(stored, source)


def check_tree(stored: Checkpoint, source: str | Path) -> None:
    """Raises `WeightsError` where the tree that a cfg names was not found: its labels would be any numbers."""
    if stored.config.model.name != "darknet" or stored.labels != _numbered(len(stored.labels)):
        return
    section = parse_cfg(stored.config.model.cfg).classes
    if section is not None and "tree" in section.values:
        raise WeightsError(
            f"{source}: the label tree of its cfg, {section.values['tree']}, is not here; name it (--tree)"
        )


class Written(NamedTuple):
    """A file that was written; `remark` says what is no longer as it was."""

    path: Path
    remark: str = ""


def write_darknet(stored: Checkpoint, source: str | Path, target: Path) -> list[Written]:
    """Write a checkpoint as Darknet's weights, with cfg and labels beside them; labels without names get no file.

    What came from Darknet is written as it was: weights byte for byte, the cfg but for the place of its tree. Raises
    `WeightsError` for what a cfg cannot say, `DataError` for what a tree's file cannot, `MachineError` where a
    file cannot be written.
    """
    if target.suffix in BESIDE:
        raise WeightsError(f"{target}: is the name of a file beside the weights; name them e.g. {target.stem}.weights")
    check_tree(stored, source)
    network = build_stored(stored, source)
    tree = target.with_suffix(".tree").name if _needs_tree(stored, network) else ""
    if len(tree.split()) > 1:
        raise WeightsError(f"{target}: a cfg cannot name a tree with blanks in its name; leave them out")
    cfg, remark = _cfg_of(network, stored.config, tree)
    chosen = blocks(network)
    header = Header(seen=int((stored.training or {}).get("seen", 0)))
    if stored.darknet is not None:
        origin = dict(stored.darknet)
        chosen = chosen[: origin.pop("blocks")]
        header = Header(**origin)
    texts = {".cfg": cfg, **_label_texts(stored.labels, tree)}
    write_weights(target, chosen, header)
    for suffix, text in texts.items():
        _write(target.with_suffix(suffix), text)
    return [Written(target), *(Written(target.with_suffix(s), remark if s == ".cfg" else "") for s in texts)]


def _needs_tree(stored: Checkpoint, network: Network | ClassifierNetwork) -> bool:
    section = network.cfg.classes if isinstance(network, DarknetNetwork) else None
    return not stored.labels.is_flat or (section is not None and "tree" in section.values)


def _cfg_of(network: Network | ClassifierNetwork, config: RunConfig, tree: str) -> tuple[str, str]:
    """The text of a cfg that names its tree as it is called now, and what was changed for that."""
    if isinstance(network, Classifier):
        assert isinstance(config, ClassifierConfig)
        return classifier_cfg_text(network, config, tree), ""
    if isinstance(network, DetectionNetwork):
        assert isinstance(config, Config)
        return cfg_text(network, config, tree), ""
    section = network.cfg.classes
    if section is None or not tree or section.values["tree"] == tree:
        return network.cfg.text, ""
    warnings = [f"tree={tree}, where it was tree={section.values['tree']}"]
    if "map" in section.values:
        warnings.append(f"map={section.values['map']} is as it was; that file is no part of a checkpoint")
    return network.cfg.text_with(section, "tree", tree), "; ".join(warnings)


def _label_texts(labels: WordTree, tree: str) -> dict[str, str]:
    named = (".names",) if labels != _numbered(len(labels)) else ()
    return label_texts(labels, (*named, ".tree") if tree else named)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise MachineError(f"{path}: cannot be written: {error.strerror or error}") from error
