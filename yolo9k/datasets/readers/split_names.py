"""Recognise the split that a file or folder name means: `valid`, `dev` and `holdout` mean `val`."""

import re
from itertools import pairwise

SPLITS = ("train", "val", "test")
WORDS = {
    "train": ("train", "training", "trn", "trainval"),
    "val": ("val", "valid", "validation", "validate", "dev", "devel", "development", "eval", "evaluation", "holdout",
            "heldout", "minival"),
    "test": ("test", "testing", "tst"),
}  # fmt: skip
SPLIT_OF_WORD = {word: split for split, words in WORDS.items() for word in words}
WORD = re.compile(r"[a-z]+|[A-Z]+(?![a-z])|[A-Z][a-z]+")
JOINED = (("hold", "out"), ("held", "out"))


def split_of(name: str) -> str | None:
    """Return the split that a word of a name means: of several the last; `None` if there is none."""
    words = [word.lower() for word in WORD.findall(name)]
    words += ["".join(pair) for pair in pairwise(words) if pair in JOINED]
    found = [SPLIT_OF_WORD[word] for word in words if word in SPLIT_OF_WORD]
    return found[-1] if found else None


def exact_split(name: str) -> str | None:
    """Return the split that a name means as a whole: `valid`, `train2017`, but not `aeroplane_train`."""
    return SPLIT_OF_WORD.get(re.sub(r"[^a-z]", "", name.casefold()))


def split_of_path(path: str) -> str | None:
    """Return the split that a part of a path means: the last that means one as a whole, else by one of its words."""
    parts = path.split("/")[::-1]
    exact = next((split for part in parts if (split := exact_split(part))), None)
    return exact or next((split for part in parts if (split := split_of(part))), None)


def differ_in_split(name: str, other: str) -> bool:
    """Return whether two names mean different splits and are the same otherwise: `train_images` and `val_images`."""
    exact, other_exact = exact_split(name), exact_split(other)
    if exact and other_exact:
        return exact != other_exact
    split, other_split = split_of(name), split_of(other)
    return bool(split and other_split) and split != other_split and _without_splits(name) == _without_splits(other)


def _without_splits(name: str) -> list[str]:
    return [word for word in map(str.lower, WORD.findall(name)) if word not in SPLIT_OF_WORD]
