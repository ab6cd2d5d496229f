"""Draw boxes on images, tile images to a mosaic, save images and figures.

An image is uint8 (H, W, 3) RGB; no function changes its arguments. Line width and font size follow the shorter side of
the image, so that labels are as readable on a thumbnail as on a photograph.
"""

import colorsys
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps
from PIL.PngImagePlugin import PngInfo

from yolo9k.errors import ConfigError
from yolo9k.fonts import Line, harmless, make_line
from yolo9k.io import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

BLACK: Colour = (0, 0, 0)
WHITE: Colour = (255, 255, 255)
GOLDEN_RATIO = (math.sqrt(5) - 1) / 2  # hues at multiples of it stay far apart
MIN_FONT_PX = 11  # smaller text is unreadable
PADDING = 0.5  # beside the text of a label, of its font size
LABELS_PER_SIDE = 36  # shorter side of the image over the height of a label
LINES_PER_SIDE = 180
CAPTION_PX = 13
MAX_JPEG_SIDE = 65_500  # of libjpeg
SOFTWARE = "yolo9k"  # in the metadata of saved images, by which they are known as outputs
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
FIGURE_FORMATS: dict[str, dict[str, Any]] = {  # suffixes of figures, and how they get `SOFTWARE`
    ".png": {"metadata": {"Software": SOFTWARE}},
    ".pdf": {"metadata": {"Creator": SOFTWARE}},
    ".svg": {"metadata": {"Creator": SOFTWARE}},
    ".jpg": {"pil_kwargs": {"comment": SOFTWARE}},
}
FIGURE_DPI = 120


def colour(label: int) -> Colour:
    """Return an RGB colour for a label; neighbouring labels get clearly different colours."""
    hue = (0.02 + label * GOLDEN_RATIO) % 1
    saturation, value = ((0.85, 1.0), (0.6, 0.95), (0.95, 0.75))[label // 8 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def text_colour(background: Colour) -> Colour:
    """Return black or white, whichever is more readable on `background` (luma of ITU-R BT.601)."""
    red, green, blue = background
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE


def draw_boxes(
    image: np.ndarray,
    xyxy: np.ndarray,
    texts: Sequence[str],
    colours: Sequence[Colour] | None = None,
    *,
    ignore: np.ndarray | None = None,
) -> np.ndarray:
    """Draw boxes (N, 4) in pixels, each with its text, on a copy of `image` (H, W, 3); "" draws no label.

    `colours`: one per box (see `colour`); default: the same for all. Boxes marked in `ignore` (N,) are dashed and
    labelled "ignored", since boxes of an excluded class have no label. The first box is on top. Raises `ValueError` if
    the numbers of boxes, texts and colours differ.
    """
    colours = [colour(0)] * len(xyxy) if colours is None else colours
    dashed = np.zeros(len(xyxy), bool) if ignore is None else ignore
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    line = max(1, round(min(canvas.size) / LINES_PER_SIDE))
    boxes = [_inside(box, canvas.size) for box in np.asarray(xyxy, float).reshape(-1, 4)]
    shown = ["ignored" if text and dash else text for text, dash in zip(texts, dashed, strict=True)]
    items = list(zip(boxes, shown, colours, dashed, strict=True))
    for box, _, paint, dash in reversed(items):
        _outline(draw, box, paint, line, dash=bool(dash))
    _draw_labels(draw, [(box, text, paint) for box, text, paint, _ in items if text], line)
    return np.array(canvas)


def _inside(box: np.ndarray, size_wh: tuple[int, int]) -> Rectangle:
    """Clip a box to the image and order its corners, as Pillow requires."""
    right, bottom = size_wh[0] - 1, size_wh[1] - 1
    x1, x2 = np.sort(np.clip(box[[0, 2]], 0, right))
    y1, y2 = np.sort(np.clip(box[[1, 3]], 0, bottom))
    return float(x1), float(y1), float(x2), float(y2)


def _outline(draw: ImageDraw.ImageDraw, box: Rectangle, paint: Colour, line: int, *, dash: bool) -> None:
    if not dash:
        draw.rectangle(box, outline=paint, width=line)
        return
    x1, y1, x2, y2 = box
    for a, b in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        pieces = max(1, round(math.dist(a, b) / (8 * line)))
        for piece in range(pieces):
            start, stop = piece / pieces, (piece + 0.5) / pieces
            ends = [(a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for t in (start, stop)]
            draw.line([*ends[0], *ends[1]], fill=paint, width=line)


def _draw_labels(draw: ImageDraw.ImageDraw, items: Sequence[tuple[Rectangle, str, Colour]], line: int) -> None:
    """Draw each label at the position of its box that covers the least of earlier labels."""
    taken: list[Rectangle] = []
    for box, text, paint in items:
        label = _label(text, draw.im.size)
        places = _positions(box, _label_wh(label), draw.im.size, line)
        position = min(places, key=lambda place: _covered(place, taken))
        taken.append(position)
        draw.rectangle(position, fill=paint)
        left = position[0] + PADDING * label.size / 2
        label.draw(draw, (left, (position[1] + position[3]) / 2), text_colour(paint))


def _label(text: str, size_wh: tuple[int, int]) -> Line:
    """Return a text in the font size for an image, smaller if it would be wider than the image."""
    size = max(MIN_FONT_PX, min(size_wh) / LABELS_PER_SIDE)
    label = make_line(text, size)
    needed = _label_wh(label)[0]
    return label if needed <= size_wh[0] else make_line(text, max(5.0, size * size_wh[0] / needed))


def _label_wh(label: Line) -> tuple[float, float]:
    return label.width + PADDING * label.size, 1.25 * label.size


def _positions(box: Rectangle, label_wh: tuple[float, float], size_wh: tuple[int, int], line: int) -> list[Rectangle]:
    """Return possible label positions, best first: above the box, inside its top, below it, inside its bottom."""
    (x1, y1, x2, y2), (w, h) = box, label_wh
    corners = [(x1, y1 - h), (x2 - w + line, y1 - h), (x1, y1), (x1, y2), (x1, y2 - h)]
    free = [corner for corner in corners if 0 <= corner[1] <= size_wh[1] - h] or [(x1, 0)]
    lefts = [(max(0.0, min(x, size_wh[0] - 1 - w)), y) for x, y in free]
    return [(x, y, x + w, y + h) for x, y in lefts]


def _covered(position: Rectangle, taken: Sequence[Rectangle]) -> float:
    """Return the area of earlier labels under `position`."""
    if not taken:
        return 0.0
    others = np.array(taken)
    widths = np.minimum(others[:, 2], position[2]) - np.maximum(others[:, 0], position[0])
    heights = np.minimum(others[:, 3], position[3]) - np.maximum(others[:, 1], position[1])
    return float((widths.clip(0) * heights.clip(0)).sum())


def fit(image: np.ndarray, xyxy: np.ndarray, size_wh: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resize an image and its boxes (N, 4) to the largest size inside `size_wh`.

    Fit before drawing: lines and text then keep their size in a mosaic.
    """
    fitted = np.array(ImageOps.contain(Image.fromarray(image), size_wh))
    scale = np.array([fitted.shape[1] / image.shape[1], fitted.shape[0] / image.shape[0]] * 2)
    return fitted, (np.asarray(xyxy).reshape(-1, 4) * scale).astype(np.float32)


def mosaic(
    images: Sequence[np.ndarray],
    columns: int | None = None,
    cell_wh: tuple[int, int] = (320, 240),
    captions: Sequence[str] | None = None,
) -> np.ndarray:
    """Tile images on white, row by row, each as large as its cell allows, with an optional caption below.

    `columns`: default: about square. Raises `ValueError` for no images.
    """
    if not images:
        raise ValueError("a mosaic needs at least one image")
    columns = columns or math.ceil(math.sqrt(len(images)))
    below = 0 if captions is None else round(1.5 * CAPTION_PX)
    (cell_w, cell_h), gap = cell_wh, 4
    step_x, step_y = cell_w + gap, cell_h + below + gap
    rows = math.ceil(len(images) / columns)
    canvas = Image.new("RGB", (columns * step_x + gap, rows * step_y + gap), WHITE)
    for index, image in enumerate(images):
        left, top = gap + index % columns * step_x, gap + index // columns * step_y
        shown = ImageOps.contain(Image.fromarray(image), cell_wh)
        canvas.paste(shown, (left + (cell_w - shown.width) // 2, top + (cell_h - shown.height) // 2))
        if captions is not None:
            _caption(canvas, captions[index], (left, top + cell_h), cell_w)
    return np.array(canvas)


def _caption(canvas: Image.Image, text: str, corner: tuple[int, int], width: int) -> None:
    """Draw text centred below a cell, shortened if it is too long."""
    shown = harmless(text)
    line = make_line(shown, CAPTION_PX)
    while shown and line.width > width:
        shown = shown.rstrip("…")[:-1] + "…" if len(shown) > 1 else ""
        line = make_line(shown, CAPTION_PX)
    left = corner[0] + (width - line.width) / 2
    line.draw(ImageDraw.Draw(canvas), (left, corner[1] + 0.8 * CAPTION_PX), BLACK)


def legend(texts: Sequence[str], colours: Sequence[Colour], width: int) -> np.ndarray:
    """Return a legend strip of `width` pixels: uint8 (height, width, 3)."""
    height = 2 * CAPTION_PX
    canvas = Image.new("RGB", (width, height), WHITE)
    draw, left = ImageDraw.Draw(canvas), 6.0
    for text, paint in zip(texts, colours, strict=True):
        line = make_line(text, CAPTION_PX)
        draw.rectangle((left, 6, left + height - 12, height - 6), fill=paint)
        line.draw(draw, (left + height - 6, height / 2), BLACK)
        left += height + line.width + 16
    return np.array(canvas)


def save_image(path: str | Path, image: np.ndarray) -> None:
    """Write an image in the format of its suffix; missing folders are created.

    Raises `ConfigError` for an unknown suffix and `MachineError` if the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(
            f"{path}: the suffix of an image must be one of {', '.join(SUFFIXES)}, not {path.suffix or 'none'!r}"
        )
    png_info = PngInfo()
    png_info.add_text("Software", SOFTWARE)
    kind = Image.registered_extensions()[path.suffix.lower()]
    with replacing(path, sync=False) as draft:
        # quality and comment are for JPEG; other formats ignore them
        Image.fromarray(image).save(draft, kind, quality=92, comment=SOFTWARE, pnginfo=png_info)


def save_figure(path: Path, figure: "Figure") -> None:
    """Write a matplotlib figure in the format of its suffix, one of `FIGURE_FORMATS`; missing folders are created.

    Raises `MachineError` if the file cannot be written.
    """
    suffix = path.suffix.lower()
    with replacing(path, "the plot") as draft:
        figure.savefig(draft, dpi=FIGURE_DPI, format=suffix.removeprefix("."), **FIGURE_FORMATS[suffix])
