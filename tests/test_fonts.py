"""Texts of all scripts are drawn: in a font that has them, else as code points; hostile names do no harm."""

import logging

import matplotlib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from PIL import features

from yolo9k import fonts
from yolo9k.drawing import draw_boxes, legend, mosaic
from yolo9k.fonts import MAX_CHARACTERS, harmless, make_line, plot_texts

DEJAVU = ["Müll", "señal", "Straße", "сеть", "Ελληνικά", "Łódź", "Đặng", "😀", "привет мир é"]
MISSING = {
    "中文": "U+4E2D U+6587",
    "犬dog": "U+72ACdog",
    "हि": "U+0939 U+093F",
    "a 한 b": "a U+D55C b",
    "\ud800": "U+D800",
}


@pytest.fixture
def only_dejavu(monkeypatch):
    """A system without fonts of its own."""
    monkeypatch.setattr(fonts, "system_fonts", lambda: ())
    clear_caches()
    yield
    clear_caches()


def clear_caches():
    for cached in (fonts._choose, fonts._warn_of_missing):
        cached.cache_clear()


def shown(text, size=20):
    return "".join(piece for piece, _ in make_line(text, size).pieces)


def ink(text, size=20):
    """The pixels of a drawn label, without its box."""
    image = np.zeros((60, 600, 3), np.uint8)
    return draw_boxes(image, np.array([[0, 30, 590, 59]]), [text], [(255, 255, 255)])[:28]


@pytest.mark.parametrize("text", DEJAVU)
def test_texts_that_dejavu_has(only_dejavu, text):
    line = make_line(text, 20)
    assert [piece for piece, _ in line.pieces] == [text]
    assert line.pieces[0][1].getname()[0] == "DejaVu Sans"
    boxes = ink("\ufffe" * len(text))
    assert (ink(text) != boxes).any()


@pytest.mark.skipif(not features.check("raqm"), reason="this Pillow does not shape text")
def test_letters_are_joined_from_right_to_left(only_dejavu):
    assert shown("عربي") == "عربي"
    assert (ink("عربي") != ink("يبرع")).any()


def test_scripts_that_pillow_cannot_shape_are_code_points(only_dejavu, monkeypatch):
    monkeypatch.setattr(fonts, "_shapes", lambda: False)
    fonts._has_ink.cache_clear()
    assert shown("עב") == "U+05E2 U+05D1"
    assert shown("Müll") == "Müll"
    fonts._has_ink.cache_clear()


@pytest.mark.parametrize(("text", "expected"), MISSING.items())
def test_what_no_font_has_is_readable(only_dejavu, text, expected):
    assert shown(text) == expected
    names, _ = plot_texts([text])
    assert names == [expected]


def test_missing_fonts_are_said_once(only_dejavu, caplog):
    with caplog.at_level(logging.WARNING):
        for text in ("中", "文", "中文"):
            make_line(text, 20)
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "no font of this system has all characters of the names"
    ]


def small_font(path, name, characters, ink=True):
    """Write a font with a square for each character; without ink the glyphs are empty, as in colour fonts."""
    from fontTools.fontBuilder import FontBuilder
    from fontTools.pens.ttGlyphPen import TTGlyphPen

    pen = TTGlyphPen(None)
    if ink:
        pen.moveTo((100, 0))
        for corner in ((100, 700), (800, 700), (800, 0)):
            pen.lineTo(corner)
        pen.closePath()
    glyph = pen.glyph()
    glyphs = {".notdef": glyph, **{f"u{ord(each):X}": glyph for each in characters}}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(list(glyphs))
    builder.setupCharacterMap({ord(each): f"u{ord(each):X}" for each in characters})
    builder.setupGlyf(glyphs)
    builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (900, 100)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": name, "styleName": "Regular", "fullName": name, "psName": name})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)
    return str(path)


def test_fonts_of_the_system_are_used_for_what_they_really_draw(tmp_path, monkeypatch):
    empty = small_font(tmp_path / "colour.ttf", "Colour", "中文🦊", ink=False)
    han = small_font(tmp_path / "han.ttf", "Han Test", "中文")
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    monkeypatch.setattr(fonts, "system_fonts", lambda: (empty, str(broken), str(tmp_path / "none.ttf"), han))
    clear_caches()
    line = make_line("é 中文 5 🦊", 20)
    assert [(piece, font.getname()[0]) for piece, font in line.pieces] == [
        ("é ", "DejaVu Sans"), ("中文", "Han Test"), (" 5 U+1F98A", "DejaVu Sans"),
    ]  # fmt: skip
    assert ink("é 中文 5").any()
    names, font = plot_texts(["中文", "é"])
    assert names == ["中文", "é"]
    assert font.get_family() == ["DejaVu Sans", "Han Test"]
    clear_caches()


def test_fonts_of_placeholders_are_never_used(tmp_path, monkeypatch):
    paths = [
        f"{tmp_path}/{name}.ttf" for name in ("LastResort", "Last Resort", "Z-Bold", "NotoSans-Regular", "Adobe Blank")
    ]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: paths)
    fonts.system_fonts.cache_clear()
    assert [path.rsplit("/", 1)[1] for path in fonts.system_fonts()] == ["NotoSans-Regular.ttf", "Z-Bold.ttf"]
    fonts.system_fonts.cache_clear()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("line\nbreak", "line break"),
        ("a\x1b[31mb\0c\td", "a [31mb c d"),
        ("a\u2028b\u2029c\x85d", "a b c d"),
        ("\u202eevil\u2066", "evil"),
        ("e\u0301", "é"),
        ("❤\ufe0f", "❤"),
        ("\u200b", "U+200B"),
        ("\x07\n", "U+0007 U+000A"),
        ("", ""),
    ],
)
def test_harmless_texts(text, expected):
    assert harmless(text) == expected


def test_long_texts_are_cut():
    assert harmless("x" * 30_000) == "x" * (MAX_CHARACTERS - 1) + "…"
    assert len(plot_texts(["中" * 5000])[0][0]) <= fonts.MAX_PLOT_CHARACTERS


def test_ascii_is_drawn_in_pillows_font():
    line = make_line("a label 0.93 …", 20)
    assert len(line.pieces) == 1
    assert line.pieces[0][1].getname()[0] == "Aileron"


def test_plots_show_names_literally():
    texts = ["$x^2$", "a$b", "_hidden", r"\alpha_1", "100%", r"\$"]
    names, font = plot_texts(texts)
    figure = Figure()
    axes = figure.add_subplot()
    for name in names:
        axes.plot([0, 1], label=name)
    axes.set_xticks(range(len(names)), names, fontproperties=font)
    box = axes.legend(prop=font)
    assert len(box.get_texts()) == len(texts)
    for text, wanted in zip(axes.get_xticklabels(), texts, strict=True):
        literal, is_math = text._preprocess_math(text.get_text())
        assert (literal.strip(), is_math) == (wanted, False)
    figure.canvas.draw()


NAMES = st.text(st.characters(codec=None), max_size=12) | st.sampled_from([*DEJAVU, *MISSING])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(NAMES, min_size=1, max_size=4))
def test_any_names_can_be_drawn(names):
    image = np.full((80, 120, 3), 90, np.uint8)
    boxes = np.tile(np.array([[5.0, 30, 80, 70]]), (len(names), 1))
    drawn = draw_boxes(image, boxes, names)
    assert drawn.shape == image.shape
    assert mosaic([image], captions=[names[0]]).ndim == 3
    assert legend(names, [(255, 0, 0)] * len(names), 200).shape == (26, 200, 3)
    texts, font = plot_texts(names)
    axes = Figure().add_subplot()
    axes.set_yticks(range(len(texts)), texts, fontproperties=font)
    axes.figure.canvas.draw()
    for name in names:
        assert make_line(name, 12).width > 0 or not name


def test_the_font_of_matplotlib_is_there():
    assert next(fonts._candidates()).startswith(matplotlib.get_data_path())
