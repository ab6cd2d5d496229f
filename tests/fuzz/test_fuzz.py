"""Any bytes in place of a file give a result or a documented error: nothing else, and nothing that takes for ever."""

import os
import re

import pytest
from fuzz_targets import FOUND, TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("YOLO9K_FUZZ_EXAMPLES", "25"))
ODD = [  # in place of a number, a name or a sign
    b"", b"0", b"1", b"-1", b".5", b"1e400", b"-1e30", b"nan", b"NaN", b"Infinity", b"9" * 20, b"1" * 5000,
    b"2147483648", b"null", b"true", b"no", b"[]", b"{}", b"[[]]", b'""', b'"x"', b"[1, 2]", b'{"a": 1}', b"\0",
    b"\xff",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe", b"..", b"../..", b"/", b"~", b"~nobody", b"*", b"a" * 5000,
    b"\xc3\xa9", b"\n", b"\t", b" ", b"[" * 3000, b"<a>" * 3000, b"&x;", b"!!python/none x", b"*a", b"&a", b"<<", b":",
    b"- ", b"|", b"#", b"=",
]  # fmt: skip
TOKEN = re.compile(rb"[\w.+-]+|\s+|.", re.DOTALL)


@st.composite
def damaged(draw, content: bytes) -> bytes:
    """Draw a valid file with a few words or bytes replaced, removed, repeated or cut off."""
    is_text = b"\0" not in content
    parts = TOKEN.findall(content) if is_text else [bytes([byte]) for byte in content]
    new = st.sampled_from(ODD) | st.sampled_from(parts) | st.binary(max_size=4)
    for _ in range(draw(st.integers(1, 4))):
        if not parts:
            break
        at = draw(st.integers(0, len(parts) - 1))
        match draw(st.sampled_from(["replace", "replace", "replace", "insert", "remove", "repeat", "cut"])):
            case "replace":
                parts[at] = draw(new)
            case "insert":
                parts.insert(at, draw(new))
            case "remove":
                del parts[at : at + draw(st.sampled_from([1, 2, 8, 64]))]
            case "repeat":
                parts[at:at] = parts[at : at + draw(st.sampled_from([1, 2, 8, 64]))] * draw(st.sampled_from([1, 2, 50]))
            case "cut":
                del parts[at:]
    return b"".join(parts)


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """The reader of each target, in a folder of its own."""
    made = {}

    def reader(name):
        if name not in made:
            made[name] = TARGETS[name].prepare(tmp_path_factory.mktemp("fuzz"))
        return made[name]

    return reader


@pytest.mark.parametrize("name", TARGETS)
def test_the_examples_are_valid(readers, name):
    for example in TARGETS[name].examples:
        assert readers(name)(example) == []


@pytest.mark.parametrize(("name", "content"), FOUND, ids=range(len(FOUND)))
def test_what_was_found_once(readers, name, content):
    readers(name)(content)


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_damaged_file_gives_a_result_or_a_documented_error(readers, name, data):
    example = data.draw(st.sampled_from(TARGETS[name].examples))
    readers(name)(data.draw(damaged(example)))


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=EXAMPLES // 2, deadline=None, suppress_health_check=list(HealthCheck))
@given(content=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_give_a_result_or_a_documented_error(readers, name, content):
    readers(name)(content)
