"""Read WordNet's nouns as a graph of concepts (file `data.noun`, format of wndb(5WN))."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo9k.errors import DataError
from yolo9k.io import exists, expanded, is_folder, read_lines

ROOT = "n00001930"  # physical entity
HYPERNYM, INSTANCE = "@", "@i"
MANUAL_EDGES = {  # without them traffic light, street sign and bubble are not descendants of the root
    "n06791372": ("n03183080",),  # signal -> device
    "n06793231": ("n06791372",),  # sign -> signal
    "n09229709": ("n03964744",),  # bubble -> plaything
}
STANDARD_FOLDERS = (  # Debian's wordnet-base, then NLTK's corpora
    "/usr/share/wordnet",
    "/usr/share/nltk_data/corpora/wordnet",
    "/usr/local/share/nltk_data/corpora/wordnet",
    "~/nltk_data/corpora/wordnet",
)


@dataclass(frozen=True)
class WordNet:
    """Concepts by WordNet id (`n02084071`): their hypernyms (more general concepts), and their words, name first."""

    hypernyms: Mapping[str, tuple[str, ...]]
    words: Mapping[str, tuple[str, ...]]

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """Return the first word of each concept."""
        return {concept: words[0] for concept, words in self.words.items()}


def find_wordnet(folder: str | Path | None = None) -> Path:
    """Return the path of `data.noun` in `folder`; `None`: in the folders where Debian and NLTK install it.

    Raises `DataError` with the folders that were searched.
    """
    nltk_folders = [
        Path(base) / "corpora" / "wordnet" for base in os.environ.get("NLTK_DATA", "").split(os.pathsep) if base
    ]
    standard_folders = [expanded(standard) for standard in STANDARD_FOLDERS]
    folders = [*nltk_folders, *standard_folders] if folder is None else [Path(folder)]
    for base in folders:
        for path in (base, base / "data.noun", base / "dict" / "data.noun"):
            if exists(path) and not is_folder(path):
                return path
    searched = ", ".join(map(str, folders))
    raise DataError(
        f"no data.noun of WordNet 3.0 in {searched}; install wordnet-base (Debian) or NLTK's corpus, or pass its folder"
    )


def read_wordnet(folder: str | Path | None = None, *, instances: bool = True, manual: bool = True) -> WordNet:
    """Read WordNet's nouns.

    `folder` as in `find_wordnet`; `instances`: include the relation "is an instance of"; `manual`: apply the three
    edges that Darknet changed. Raises `DataError` with file and line for a line that is not in WordNet's format.
    """
    path = find_wordnet(folder)
    relations = (HYPERNYM, INSTANCE) if instances else (HYPERNYM,)
    hypernyms: dict[str, tuple[str, ...]] = {}
    words: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(read_lines(path), 1):
        if line.startswith("  "):  # the licence at the top of the file
            continue
        concept, concept_words, parents = _parse_concept(line, relations, f"{path}:{number}")
        words[concept], hypernyms[concept] = concept_words, parents
    if not words:
        raise DataError(f"{path}: contains no nouns")
    if manual:
        hypernyms.update({node: parents for node, parents in MANUAL_EDGES.items() if node in hypernyms})
    return WordNet(hypernyms, words)


def _parse_concept(
    line: str, relations: tuple[str, ...], location: str
) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the id, words and parents of a concept from a line of `data.noun`.

    The format is: offset lex_filenum ss_type w_cnt word lex_id ... p_cnt [symbol offset pos source/target ...] | gloss.
    """
    parts = line.partition(" | ")[0].split()
    try:
        count = int(parts[3], 16)
        words = tuple(parts[4 : 4 + 2 * count : 2])
        p_cnt = 4 + 2 * count
        pointers = parts[p_cnt + 1 : p_cnt + 1 + 4 * int(parts[p_cnt])]
        offset = int(parts[0])
    except (IndexError, ValueError) as error:
        raise DataError(f"{location}: not a noun in the format of WordNet's data files") from error
    if not words or len(pointers) % 4:
        raise DataError(f"{location}: not a noun in the format of WordNet's data files")
    targets = zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True)
    parents = tuple(f"n{target}" for symbol, target, pos in targets if symbol in relations and pos == "n")
    return f"n{offset:08d}", tuple(word.replace("_", " ") for word in words), parents
