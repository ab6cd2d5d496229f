"""Text from files on a terminal: nothing acts on it, and it is never too long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo9k.cli.text import MAX_LENGTH, UNSAFE, one_line, safe, safe_lines

HOSTILE = [
    "\x1b[31mred", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\link", "\x9b31m", "\x90q\x9c", "over\rwritten", "a\b\bb",
    "two\nlines", "tab\tbed", "\x00", "\x7f", "left\u202eright", "\u2066isolate\u2069", "\u2028", "\ufeff", "\u200b",
    "\udcff", "\U000e0041",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_acts_on_is_escaped(text):
    shown = one_line(text)
    assert shown.isprintable()
    assert "\\" in shown
    shown.encode("utf-8")


def test_escapes_say_which_character_it_was():
    assert one_line("a\x1b[0m\n\u202eb\udcff") == r"a\x1b[0m\n\u202eb\udcff"


@pytest.mark.parametrize(
    "name",
    [
        "café",
        "Ёлка",
        "Ωμέγα",
        "苹果",
        "リンゴ",
        "사과",
        "تفاحة",
        "नमस्ते",
        "می‌خواهم",
        "👩‍👩‍👧",
        "a\u3000b",
        "[/b] [red]x :smile:",
        "C:\\new",
    ],
)
def test_names_in_all_scripts_stay(name):
    assert one_line(name) == name


@given(st.text())
def test_any_text_becomes_one_printable_line(text):
    shown = one_line(text)
    assert not UNSAFE.search(shown)
    assert len(shown.splitlines()) <= 1
    assert len(shown) <= MAX_LENGTH
    assert one_line(shown) == shown


def test_long_text_is_cut_in_the_middle():
    shown = one_line("start " + "\x1b" * 50_000 + " end")
    assert len(shown) <= MAX_LENGTH
    assert shown.startswith("start ")
    assert "…" in shown
    assert shown.endswith(" end")


def test_texts_of_several_lines_keep_them():
    assert safe_lines("a: 1\n\tb: \x1b[2J\r\n") == "a: 1\n\tb: \\x1b[2J\\r\n"
    assert len(safe("x" * 9999)) == 9999
