"""When two class names mean the same class: other spellings, and the synonyms of Pascal VOC's and COCO's names."""

import re
from collections.abc import Mapping

LETTER, SEPARATORS = r"[^\W\d_]", r"[\s_-]+"
IN_WORDS = re.compile(rf"(?<={LETTER}){SEPARATORS}(?=[^\W_])|(?<=\d){SEPARATORS}(?={LETTER})")  # `1-2` is not `12`
SYNONYMS: Mapping[str, str] = {  # VOC's names, which are also in Darknet's `coco.names`, and those of COCO
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
}


def matching_key(name: str) -> str:
    """Return a text that is equal for synonyms and for names that differ only in case, spaces, `_` and `-`."""
    key = IN_WORDS.sub("", name).casefold()
    return SYNONYMS.get(key, key)
