"""Weights of any origin as a `Checkpoint`: a run, a checkpoint, Darknet's files, a model of the catalogue; and back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yolo9k import checkpoint
from yolo9k.build import Network, build_network
from yolo9k.checkpoint import Checkpoint
from yolo9k.config import Config
from yolo9k.darknet import catalogue
from yolo9k.darknet.cfg import read_cfg
from yolo9k.darknet.labels import find_labels, read_data_file
from yolo9k.darknet.network import DarknetNetwork
from yolo9k.darknet.recipe import config_of
from yolo9k.darknet.weights import Header, blocks, read_header, write_weights
from yolo9k.darknet.writer import cfg_text
from yolo9k.errors import EnvironmentFault, WeightsError
from yolo9k.progress import Track, silent
from yolo9k.wordtree import WordTree
from yolo9k.wordtree.files import label_texts

BESIDE = (".cfg", ".names", ".tree")


@dataclass(frozen=True)
class DarknetFiles:
    """The files that say what a weights file is: its cfg, the names of its labels, its tree; or Darknet's `.data`."""

    cfg: str | Path | None = None
    names: str | Path | None = None
    tree: str | Path | None = None
    data: str | Path | None = None


def open_weights(source: str | Path, files: DarknetFiles | None = None, track: Track = silent) -> Checkpoint:
    """What `--weights` means: a run folder, a checkpoint, a Darknet file (with its `files`), or a catalogue name.

    A model of the catalogue is fetched when it is not here. Raises `WeightsError` for what is not found or wrong.
    """
    files = files or DarknetFiles()
    path = Path(source).expanduser()
    if _is(path.is_dir):
        return checkpoint.load(checkpoint.find(path))
    if _is(path.is_file):
        return checkpoint.load(path) if checkpoint.is_checkpoint(path) else _from_darknet(path, files)
    entry = catalogue.find(str(source))
    if entry is None:
        raise WeightsError(
            f"{source}: no such file or run, and no model of the catalogue; {catalogue.near(str(source))}"
        )
    fetched = catalogue.download(entry, track)
    return _from_darknet(fetched.weights, DarknetFiles(fetched.cfg, fetched.names, fetched.tree))


def _is(question: Callable[[], bool]) -> bool:
    """The answer about a path; no, where no path can be called so."""
    try:
        return question()
    except OSError:
        return False


def _from_darknet(path: Path, files: DarknetFiles) -> Checkpoint:
    """A weights file with its cfg; `path.cfg` and `path.names` beside it are taken where none are named."""
    read_header(path)  # first of all: is it such a file?
    cfg_path = files.cfg or _beside(path, ".cfg")
    if cfg_path is None:
        raise WeightsError(f"{path}: a Darknet file needs its cfg; name it with --cfg")
    cfg = read_cfg(cfg_path)
    names, tree = files.names, files.tree
    if files.data is not None:
        named = read_data_file(files.data)
        names, tree = names or named.get("names"), tree or named.get("tree")
    names = names or _beside(path, ".names")
    labels = find_labels(cfg, tree, names)
    network = DarknetNetwork(cfg, labels)
    loaded = network.read(path)
    header = loaded.header
    origin = {
        "major": header.major, "minor": header.minor, "revision": header.revision, "seen": header.seen,
        "blocks": loaded.blocks,
    }  # fmt: skip
    labels = labels or WordTree.flat([str(number) for number in range(_classes(network))])
    return Checkpoint(config_of(cfg), labels, network.state_dict(), darknet=origin)


def _beside(path: Path, suffix: str) -> Path | None:
    """The file of the same name with another suffix, where it is there."""
    other = path.with_suffix(suffix)
    return other if other != path and other.is_file() else None


def _classes(network: DarknetNetwork) -> int:
    return network.region.classes if network.region else network.shapes[-1].channels


def build_stored(stored: Checkpoint, source: str | Path) -> Network:
    """The network of a checkpoint with its weights. Raises `WeightsError` where they do not fit."""
    network = build_network(stored.config.model, stored.labels)
    try:
        network.load_state_dict(dict(stored.weights))
    except RuntimeError as error:
        raise WeightsError(f"{source}: the weights do not fit the model that the file describes") from error
    return network


def check_whole(stored: Checkpoint, network: Network, source: str | Path) -> None:
    """Raises `WeightsError` where a file held only some layers, or belongs to no detector."""
    if isinstance(network, DarknetNetwork) and network.region is None:
        raise WeightsError(f"{source}: no detector, its cfg has no [region]; it is where a training may start")
    total = len(blocks(network))
    if stored.darknet is not None and stored.darknet["blocks"] < total:
        raise WeightsError(
            f"{source}: a partial file with {stored.darknet['blocks']} of {total} layers; "
            f"it is where a training may start (yolo9k train --weights)"
        )


def write_darknet(stored: Checkpoint, source: str | Path, target: Path) -> list[Path]:
    """Write a checkpoint as Darknet's weights, with cfg and labels beside them; gives the paths.

    What came from a Darknet file is written as it was, byte for byte. Raises `WeightsError` for what a cfg cannot
    say, `DataError` for what a tree's file cannot, `EnvironmentFault` where a file cannot be written.
    """
    if target.suffix in BESIDE:
        raise WeightsError(f"{target}: is the name of a file beside the weights; name them e.g. {target.stem}.weights")
    network = build_stored(stored, source)
    chosen = blocks(network)
    header = Header(seen=int((stored.training or {}).get("seen", 0)))
    if stored.darknet is not None:
        origin = dict(stored.darknet)
        chosen = chosen[: origin.pop("blocks")]
        header = Header(**origin)
    written = [target]
    tree = "" if stored.labels.is_flat else target.with_suffix(".tree").name
    labels = label_texts(stored.labels, (".names", ".tree") if tree else (".names",))
    texts = {".cfg": _cfg_of(network, stored.config, tree), **labels}
    write_weights(target, chosen, header)
    for suffix, text in texts.items():
        written.append(target.with_suffix(suffix))
        _write(written[-1], text)
    return written


def _cfg_of(network: Network, config: Config, tree: str) -> str:
    return network.cfg.text if isinstance(network, DarknetNetwork) else cfg_text(network, config, tree)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise EnvironmentFault(f"{path}: cannot be written: {error.strerror or error}") from error
