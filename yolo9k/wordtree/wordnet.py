"""WordNet's nouns as a graph of concepts (`data.noun`, format of wndb(5WN))."""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from yolo9k.errors import DataError

ROOT = "n00001930"  # physical entity
HYPERNYM, INSTANCE = "@", "@i"
MANUAL_EDGES = {  # without them traffic light, street sign and bubble are no physical entities
    "n06791372": ("n03183080",),  # signal -> device
    "n06793231": ("n06791372",),  # sign -> signal
    "n09229709": ("n03964744",),  # bubble -> plaything
}
USUAL_PLACES = (  # Debian's wordnet-base, then NLTK's corpora
    "/usr/share/wordnet",
    "/usr/share/nltk_data/corpora/wordnet",
    "/usr/local/share/nltk_data/corpora/wordnet",
    "~/nltk_data/corpora/wordnet",
)


@dataclass(frozen=True)
class WordNet:
    """Concepts by WordNet id (`n02084071`): their more general concepts, and their words, the first is the name."""

    hypernyms: Mapping[str, tuple[str, ...]]
    words: Mapping[str, tuple[str, ...]]

    @functools.cached_property
    def names(self) -> dict[str, str]:
        """The first word of each concept."""
        return {concept: words[0] for concept, words in self.words.items()}


def find_wordnet(folder: str | Path | None = None) -> Path:
    """The `data.noun` in a folder, or where Debian and NLTK put it. Raises `DataError` with the places looked at."""
    extra = [Path(base) / "corpora" / "wordnet" for base in os.environ.get("NLTK_DATA", "").split(os.pathsep) if base]
    places = [Path(folder)] if folder is not None else [*extra, *(Path(place).expanduser() for place in USUAL_PLACES)]
    for place in places:
        for path in (place, place / "data.noun", place / "dict" / "data.noun"):
            if path.is_file():
                return path
    looked = ", ".join(map(str, places))
    raise DataError(
        f"no data.noun of WordNet 3.0 in {looked}; install wordnet-base (Debian) or NLTK's corpus, or name its folder"
    )


def read_wordnet(folder: str | Path | None = None, *, instances: bool = True, manual: bool = True) -> WordNet:
    """Read the nouns. `instances`: follow "is an instance of", too; `manual`: the three edges that Darknet changed.

    Raises `DataError` with file and line for what is not in WordNet's format.
    """
    path = find_wordnet(folder)
    kinds = (HYPERNYM, INSTANCE) if instances else (HYPERNYM,)
    hypernyms: dict[str, tuple[str, ...]] = {}
    words: dict[str, tuple[str, ...]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.startswith("  "):  # the licence, at the top
                    continue
                concept, own, above = _concept(line, kinds, f"{path}:{number}")
                words[concept], hypernyms[concept] = own, above
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not words:
        raise DataError(f"{path}: no nouns in it")
    if manual:
        hypernyms.update({node: above for node, above in MANUAL_EDGES.items() if node in hypernyms})
    return WordNet(hypernyms, words)


def _concept(line: str, kinds: tuple[str, ...], place: str) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """offset lex_filenum ss_type w_cnt word lex_id ... p_cnt [symbol offset pos source/target ...] | gloss."""
    parts = line.partition(" | ")[0].split()
    try:
        count = int(parts[3], 16)
        words = tuple(parts[4 : 4 + 2 * count : 2])
        at = 4 + 2 * count
        pointers = parts[at + 1 : at + 1 + 4 * int(parts[at])]
        offset = int(parts[0])
    except (IndexError, ValueError) as error:
        raise DataError(f"{place}: not a noun in the format of WordNet's data files") from error
    if not words or len(pointers) % 4:
        raise DataError(f"{place}: not a noun in the format of WordNet's data files")
    quads = zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True)
    above = tuple(f"n{target}" for symbol, target, pos in quads if symbol in kinds and pos == "n")
    return f"n{offset:08d}", tuple(word.replace("_", " ") for word in words), above
