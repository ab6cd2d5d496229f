"""Draw toy images for detection: coloured shapes on textured backgrounds.

They take minutes to train on, but are not trivial: shapes have diameters of 18 to 50 % of the image side, are rotated,
textured and overlap; lines, specks and letters are clutter. Backgrounds and clutter are greyish and shapes are bright,
so that an untrained network soon localises them; only the outline distinguishes the shapes.

An image depends only on its random generator. Each object has a shape, a fill and a colour, each from its table, so
coarse and fine labels can be made for the same images.
"""

import colorsys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SIDE_PX = 256
DIAMETERS = (0.18, 0.5)  # range of shape diameters, as fractions of the image side
MAX_OBJECTS = 5
MAX_COVERED = 0.25  # fraction of a shape that others may cover
MAX_TINT = 12.0  # max difference of a greyish colour's channels from grey
LETTERS = "AEFGHKMNRSYZ"  # without those that resemble a shape
SUBPIXEL_BITS = 4

Contours = list[np.ndarray]
Fill = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]


def _polygon(radii: list[float], turn: float = 0.0) -> np.ndarray:
    """Return corners (P, 2) at equal angles and these radii; the first is at the top, rotated by `turn` full turns."""
    angles = 2 * np.pi * (np.arange(len(radii)) / len(radii) + turn) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, None]


def _cross(arm: float) -> np.ndarray:
    """Return the corners (12, 2) of a cross in the unit circle with arms of width 2 * `arm`."""
    reach = np.sqrt(1 - arm**2)
    quarter = np.array([[arm, -reach], [arm, -arm], [reach, -arm]])
    rotations = [np.array([[1, 0], [0, 1]]), np.array([[0, -1], [1, 0]])]
    rotations += [-rotation for rotation in rotations]
    return np.concatenate([quarter @ rotation.T for rotation in rotations])


SHAPES: Mapping[str, Contours] = {  # corners in the unit circle; a second contour is a hole
    "disc": [_polygon([1.0] * 48)],
    "ring": [_polygon([1.0] * 48), _polygon([0.55] * 48)],
    "triangle": [_polygon([1.0] * 3)],
    "square": [_polygon([1.0] * 4, turn=1 / 8)],
    "star": [_polygon([1.0, 0.45] * 5)],
    "cross": [_cross(0.3)],
}
COLOURS: Mapping[str, tuple[float, float]] = {  # ranges of hues in degrees
    "red": (-20, 20),
    "green": (100, 140),
    "blue": (220, 260),
}


@dataclass(frozen=True)
class ToyClass:
    """A class of objects by shape, fill and colour; "": any."""

    shape: str = ""
    fill: str = ""
    colour: str = ""


@dataclass(frozen=True)
class ToyObject:
    """A drawn object, and the box `xyxy` (float pixels) of its visible part."""

    shape: str
    fill: str
    colour: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """An image, uint8 (S, S, 3) RGB, and its objects."""

    image: np.ndarray
    objects: tuple[ToyObject, ...]


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) RGB as JPEG."""
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    path.write_bytes(encoded.tobytes())


def label_lines(scene: Scene, labels: Sequence[int]) -> str:
    """Return the lines of a YOLO label file: `label cx cy w h` per object, relative to the image size."""
    lines = []
    for item, label in zip(scene.objects, labels, strict=True):
        x1, y1, x2, y2 = (edge / len(scene.image) for edge in item.xyxy)
        lines.append(f"{label} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)


def draw_scene(
    rng: np.random.Generator,
    side_px: int = SIDE_PX,
    *,
    classes: Sequence[ToyClass] = (ToyClass(),),
    max_objects: int = MAX_OBJECTS,
    diameters: tuple[float, float] = DIAMETERS,
) -> Scene:
    """Draw an image of 1 to `max_objects` objects (fewer if there is no room); all randomness comes from `rng`.

    `classes`: the classes to choose from (default: any shape, fill and colour). `diameters`: range of shape diameters,
    as fractions of the image side.
    """
    image = _add_clutter(rng, _draw_background(rng, side_px, _random_grey(rng)))
    masks: list[np.ndarray] = []
    drawn: list[tuple[str, str, str]] = []
    for _ in range(rng.integers(1, max_objects + 1)):
        toy_class = classes[int(rng.integers(len(classes)))]
        shape, fill, colour = (
            name or str(rng.choice(list(table)))
            for name, table in ((toy_class.shape, SHAPES), (toy_class.fill, FILLS), (toy_class.colour, COLOURS))
        )
        mask = _free_mask(rng, SHAPES[shape], side_px, diameters, masks)
        if mask is None:  # no room left
            continue
        paint = FILLS[fill](rng, side_px, _random_bright(rng, COLOURS[colour])).astype(np.float32)
        image += (paint - image) * (mask[..., None] / np.float32(255))
        masks.append(mask)
        drawn.append((shape, fill, colour))
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 10))
    boxes = [_bounding_box(visible) for visible in _visible_parts(masks)]
    objects = tuple(ToyObject(*names, box) for names, box in zip(drawn, boxes, strict=True))
    return Scene(image.clip(0, 255).astype(np.uint8), objects)


def _free_mask(
    rng: np.random.Generator,
    contours: Contours,
    side_px: int,
    diameters: tuple[float, float],
    masks: list[np.ndarray],
) -> np.ndarray | None:
    """Return the mask (S, S) of a shape at a random position that keeps all shapes visible; `None` if none is found."""
    for _ in range(20):
        mask = _random_mask(rng, contours, side_px, diameters)
        candidate = [*masks, mask]
        fractions = (part.sum() / (m > 127).sum() for m, part in zip(candidate, _visible_parts(candidate), strict=True))
        if all(fraction >= 1 - MAX_COVERED for fraction in fractions):
            return mask
    return None


def _random_mask(
    rng: np.random.Generator, contours: Contours, side_px: int, diameters: tuple[float, float]
) -> np.ndarray:
    """Return the anti-aliased mask (S, S) uint8 of a shape of random size, aspect ratio, rotation and position."""
    radius = side_px * np.exp(rng.uniform(*np.log(diameters))) / 2
    stretch = np.exp(rng.uniform(-0.15, 0.15) * np.array([1, -1]))
    angle = rng.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    placed = [corners * stretch @ rotation.T * radius for corners in contours]
    low, high = placed[0].min(axis=0), placed[0].max(axis=0)
    centre = rng.uniform(1 - low, side_px - 1 - high)
    corners = [np.rint((part + centre) * 2**SUBPIXEL_BITS).astype(np.int32) for part in placed]
    mask = np.zeros((side_px, side_px), np.uint8)
    cv2.fillPoly(mask, corners, 255, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
    return mask


def _visible_parts(masks: list[np.ndarray]) -> list[np.ndarray]:
    """Return the visible part of each mask, (S, S) bool: later shapes cover earlier ones."""
    visible = []
    covered = np.zeros(masks[0].shape, bool) if masks else np.zeros(0, bool)
    for mask in reversed(masks):
        visible.append((mask > 127) & ~covered)
        covered = covered | (mask > 127)
    return visible[::-1]


def _bounding_box(visible: np.ndarray) -> tuple[float, float, float, float]:
    """Return the box around the true pixels of a mask (S, S)."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _random_grey(rng: np.random.Generator) -> np.ndarray:
    """Return a nearly grey colour (3,)."""
    return rng.uniform(50, 200) + rng.uniform(-MAX_TINT, MAX_TINT, 3)


def _random_bright(rng: np.random.Generator, hues: tuple[float, float]) -> np.ndarray:
    """Return a saturated colour (3,) with a hue in this range of degrees."""
    hue = rng.uniform(*hues) % 360 / 360
    return 255 * np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.75, 1), rng.uniform(0.75, 1)))


def _smooth_noise(rng: np.random.Generator, side_px: int, cells: int) -> np.ndarray:
    """Return noise (S, S, 1) of about [-1, 1]: random values on a grid of `cells` x `cells`, interpolated."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)[..., None]


def _wave(rng: np.random.Generator, side_px: int, lengths_px: tuple[float, float]) -> np.ndarray:
    """Return a sine wave (S, S, 1) in [-1, 1] of random direction, length and phase."""
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    pixels = np.arange(side_px) * 2 * np.pi / rng.uniform(*lengths_px)
    waves = np.add.outer(pixels * np.sin(angle), pixels * np.cos(angle) + phase)
    return np.sin(waves.astype(np.float32))[..., None]


def _draw_background(rng: np.random.Generator, side_px: int, colour: np.ndarray) -> np.ndarray:
    """Return a background (S, S, 3) float: a random texture around `colour`, with uneven lighting."""
    textures = (
        lambda: _smooth_noise(rng, side_px, int(rng.integers(4, 12))),
        lambda: _smooth_noise(rng, side_px, int(rng.integers(40, 90))),
        lambda: np.sign(_wave(rng, side_px, (12, 50))),
        lambda: np.sign(_smooth_noise(rng, side_px, int(rng.integers(6, 20))) - 0.2),
    )
    texture = textures[rng.integers(len(textures))]()
    light = 25 * _smooth_noise(rng, side_px, 3)
    return colour + light + texture * rng.uniform(-35, 35)


def _add_clutter(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """Return the background (S, S, 3) float with lines, specks and letters."""
    image, side = background.clip(0, 255).astype(np.uint8), len(background)

    def point() -> tuple[int, int]:
        x, y = rng.integers(0, side, 2)
        return int(x), int(y)

    for _ in range(rng.integers(0, 5)):
        cv2.line(image, point(), point(), _random_grey(rng).tolist(), int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 40)):
        cv2.circle(image, point(), int(rng.integers(1, 4)), _random_grey(rng).tolist(), -1)
    for _ in range(rng.integers(0, 5)):
        scale, letter = rng.uniform(0.4, 1.6) * side / 256, str(rng.choice(list(LETTERS)))
        colour = _random_grey(rng).tolist()
        cv2.putText(image, letter, point(), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, int(rng.integers(1, 4)))
    return image.astype(np.float32)


def _plain(rng: np.random.Generator, side_px: int, colour: np.ndarray) -> np.ndarray:
    return np.broadcast_to(colour, (side_px, side_px, 3))


def _gradient(rng: np.random.Generator, side_px: int, colour: np.ndarray) -> np.ndarray:
    return colour + _wave(rng, side_px, (side_px, 2 * side_px)) * rng.uniform(-60, 60, 3)


def _striped(rng: np.random.Generator, side_px: int, colour: np.ndarray) -> np.ndarray:
    return colour + np.sign(_wave(rng, side_px, (8, 20))) * rng.uniform(20, 50)


def _checked(rng: np.random.Generator, side_px: int, colour: np.ndarray) -> np.ndarray:
    squares = np.sign(_wave(rng, side_px, (10, 24))) * np.sign(_wave(rng, side_px, (10, 24)))
    return colour + squares * rng.uniform(20, 50)


def _speckled(rng: np.random.Generator, side_px: int, colour: np.ndarray) -> np.ndarray:
    return colour + _smooth_noise(rng, side_px, side_px // 4) * rng.uniform(30, 70)


FILLS: Mapping[str, Fill] = {
    "plain": _plain,
    "gradient": _gradient,
    "striped": _striped,
    "checked": _checked,
    "speckled": _speckled,
}
