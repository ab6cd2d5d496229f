"""The words of the field: terms that an earlier vocabulary had for them do not come back."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

INSTEAD = {  # an old term, and the field's
    r"pictures?": "image",
    # but not Darknet's own names: fill_truth_detection, notruth, and keys of the reference data
    r"(?<!ground )(?<!ground_)(?<!ground-)(?<!no)(?<!fill_)(?<!\[\")truths?(?!_shuffled)": "ground truth, target",
    r"taught": "box-supervised, weakly supervised, supervision",
    r"by heart": "overfit, memorise",
    r"burn-in": "warm-up (in Darknet's cfgs: burn_in)",
    r"mend(s|ed|ing)?": "fix",
    r"wish(es|ed)?": "requested",
    r"trunk": "backbone",
    r"likeliest": "most probable",
    r"remed(y|ies)": "hint, fix",
    r"remarks?": "warning",
    r"defects?": "error, warning",
    r"image labels?": "image-level label",
    r"(the|a|of|what) shares?": "fraction, ratio, sampling weight",
    r"never boxed|never-boxed|unseen": "without boxes, weakly supervised",
    r"reading process(es)?": "worker",
    r"watchers?": "callback",
    r"kept list": "index cache",
    r"ways out": "hint",
    r"shall": "must, should",
}
OLD = re.compile(rf"(?<![a-z])({'|'.join(INSTEAD)})(?![a-z])", re.IGNORECASE)  # also as a part of a name
ALLOWED = ("renamed.py", "test_words.py")  # the table of old names, and this list
PATTERNS = ("yolo9k/**/*", "scripts/**/*", "tests/**/*", "configs/**/*", "docs/*", "data/README.md", "*.md", "*.toml")
SUFFIXES = ("", ".py", ".md", ".yaml", ".toml", ".sh")


def texts():
    """Return the code, configs, scripts and documents of the project."""
    found = {path for pattern in PATTERNS for path in REPOSITORY.glob(pattern) if path.suffix in SUFFIXES}
    return sorted(path for path in found if path.is_file() and path.name not in ALLOWED)


@pytest.mark.parametrize("path", texts(), ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_file_uses_the_words_of_the_field(path):
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
    old = [f"{path.name}:{number}: {match[0]!r}" for number, line in lines for match in OLD.finditer(line)]
    assert not old, "\n".join(old)
