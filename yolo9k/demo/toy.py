"""Toy images for detection: drawn shapes on textured backgrounds.

Small enough to train on in minutes, hard enough to mean something: sizes from 18 to 50 % of the side, rotation,
overlap, textures, and clutter of lines, specks and letters. Backgrounds and clutter are dull and shapes are bright,
so that a network of random weights soon finds them; their kind shows in their outline only.

An image depends on its random generator only. What is drawn is a table of shapes, one of fills and one of colours,
and an `Object` keeps all names, so that coarse and fine label sets can be made from the same images.
"""

import colorsys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SIDE_PX = 256
DIAMETERS = (0.18, 0.5)  # of a shape, as shares of the side
MAX_OBJECTS = 5
MAX_HIDDEN = 0.25  # share of a shape that others may cover
TINT = 12.0  # how far a dull colour's channels are from grey, at most
LETTERS = "AEFGHKMNRSYZ"  # none that looks like a shape
SUBPIXEL_BITS = 4

Contours = list[np.ndarray]
Fill = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]


def _ring_of(radii: list[float], turn: float = 0.0) -> np.ndarray:
    """(P, 2) corners at equal angles and the given radii, the first one `turn` of a circle from the top."""
    angles = 2 * np.pi * (np.arange(len(radii)) / len(radii) + turn) - np.pi / 2
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array(radii)[:, None]


def _cross(arm: float) -> np.ndarray:
    """(12, 2) corners of a cross in the unit circle whose arms are 2 * `arm` wide."""
    reach = np.sqrt(1 - arm**2)
    quarter = np.array([[arm, -reach], [arm, -arm], [reach, -arm]])
    turns = [np.array([[1, 0], [0, 1]]), np.array([[0, -1], [1, 0]])]
    turns += [-turn for turn in turns]
    return np.concatenate([quarter @ turn.T for turn in turns])


SHAPES: Mapping[str, Contours] = {  # corners inside the unit circle; a second contour is a hole
    "disc": [_ring_of([1.0] * 48)],
    "ring": [_ring_of([1.0] * 48), _ring_of([0.55] * 48)],
    "triangle": [_ring_of([1.0] * 3)],
    "square": [_ring_of([1.0] * 4, turn=1 / 8)],
    "star": [_ring_of([1.0, 0.45] * 5)],
    "cross": [_cross(0.3)],
}


COLOURS: Mapping[str, tuple[float, float]] = {"red": (-20, 20), "green": (100, 140), "blue": (220, 260)}  # degrees


@dataclass(frozen=True)
class ToyClass:
    """What may be drawn: a shape, a fill and a colour; an empty one is any."""

    shape: str = ""
    fill: str = ""
    colour: str = ""


@dataclass(frozen=True)
class Object:
    """One drawn thing: what it is, and the box around its visible pixels (float `xyxy`)."""

    shape: str
    fill: str
    colour: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Scene:
    """One image, uint8 (S, S, 3) RGB, and what is in it."""

    image: np.ndarray
    objects: tuple[Object, ...]


def write_jpeg(path: Path, image: np.ndarray) -> None:
    """Write an image (H, W, 3) RGB."""
    _, encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
    path.write_bytes(encoded.tobytes())


def label_lines(scene: Scene, labels: Sequence[int]) -> str:
    """`class cx cy w h` by object, relative to the image."""
    lines = []
    for thing, label in zip(scene.objects, labels, strict=True):
        x1, y1, x2, y2 = (edge / len(scene.image) for edge in thing.xyxy)
        lines.append(f"{label} {(x1 + x2) / 2:.6f} {(y1 + y2) / 2:.6f} {x2 - x1:.6f} {y2 - y1:.6f}\n")
    return "".join(lines)


def draw_scene(
    rng: np.random.Generator,
    side_px: int = SIDE_PX,
    *,
    kinds: Sequence[ToyClass] = (ToyClass(),),
    most_objects: int = 0,
    diameters: tuple[float, float] = DIAMETERS,
) -> Scene:
    """An image of shapes, drawn with random numbers from `rng` only.

    `kinds`: what to choose from, anything if left out; `most_objects`, `MAX_OBJECTS` if left out, of diameters in a
    range of shares of the side.
    """
    image = _with_clutter(rng, _background(rng, side_px, _dull(rng)))
    masks: list[np.ndarray] = []
    drawn: list[tuple[str, str, str]] = []
    for _ in range(rng.integers(1, (most_objects or MAX_OBJECTS) + 1)):
        kind = kinds[int(rng.integers(len(kinds)))]
        shape, fill, colour = (
            wanted or str(rng.choice(list(table)))
            for wanted, table in ((kind.shape, SHAPES), (kind.fill, FILLS), (kind.colour, COLOURS))
        )
        mask = _free_mask(rng, SHAPES[shape], side_px, diameters, masks)
        if mask is None:  # no room left
            continue
        paint = FILLS[fill](rng, side_px, _bright(rng, COLOURS[colour])).astype(np.float32)
        image += (paint - image) * (mask[..., None] / np.float32(255))
        masks.append(mask)
        drawn.append((shape, fill, colour))
    image += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(2, 10))
    boxes = [_box(visible) for visible in _visible(masks)]
    objects = tuple(Object(*names, box) for names, box in zip(drawn, boxes, strict=True))
    return Scene(image.clip(0, 255).astype(np.uint8), objects)


def _free_mask(
    rng: np.random.Generator,
    contours: Contours,
    side_px: int,
    diameters: tuple[float, float],
    masks: list[np.ndarray],
) -> np.ndarray | None:
    """Coverage (S, S) of a shape at a random place that leaves the earlier ones visible; none if crowded."""
    for _ in range(20):
        mask = _random_mask(rng, contours, side_px, diameters)
        together = [*masks, mask]
        shares = (seen.sum() / (m > 127).sum() for m, seen in zip(together, _visible(together), strict=True))
        if all(share >= 1 - MAX_HIDDEN for share in shares):
            return mask
    return None


def _random_mask(
    rng: np.random.Generator, contours: Contours, side_px: int, diameters: tuple[float, float]
) -> np.ndarray:
    """Coverage (S, S) uint8 of a shape of random size, proportions, rotation and place in the image."""
    radius = side_px * np.exp(rng.uniform(*np.log(diameters))) / 2
    stretch = np.exp(rng.uniform(-0.15, 0.15) * np.array([1, -1]))
    angle = rng.uniform(0, 2 * np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    placed = [corners * stretch @ turn.T * radius for corners in contours]
    low, high = placed[0].min(axis=0), placed[0].max(axis=0)
    centre = rng.uniform(1 - low, side_px - 1 - high)
    corners = [np.rint((part + centre) * 2**SUBPIXEL_BITS).astype(np.int32) for part in placed]
    mask = np.zeros((side_px, side_px), np.uint8)
    cv2.fillPoly(mask, corners, 255, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
    return mask


def _visible(masks: list[np.ndarray]) -> list[np.ndarray]:
    """What later shapes leave of each, (S, S) bool."""
    seen = []
    covered = np.zeros(masks[0].shape, bool) if masks else np.zeros(0, bool)
    for mask in reversed(masks):
        seen.append((mask > 127) & ~covered)
        covered = covered | (mask > 127)
    return seen[::-1]


def _box(visible: np.ndarray) -> tuple[float, float, float, float]:
    """The box around the true pixels of a mask (S, S)."""
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _dull(rng: np.random.Generator) -> np.ndarray:
    """A nearly grey colour (3,)."""
    return rng.uniform(50, 200) + rng.uniform(-TINT, TINT, 3)


def _bright(rng: np.random.Generator, hues: tuple[float, float]) -> np.ndarray:
    """A saturated colour (3,), of a hue in a range of degrees."""
    hue = rng.uniform(*hues) % 360 / 360
    return 255 * np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.75, 1), rng.uniform(0.75, 1)))


def _smooth_noise(rng: np.random.Generator, side_px: int, cells: int) -> np.ndarray:
    """(S, S, 1) in about [-1, 1]: random values on a coarse grid, interpolated."""
    coarse = rng.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return cv2.resize(coarse, (side_px, side_px), interpolation=cv2.INTER_CUBIC)[..., None]


def _wave(rng: np.random.Generator, side_px: int, lengths_px: tuple[float, float]) -> np.ndarray:
    """(S, S, 1) in [-1, 1]: a sine wave of random direction, length and phase."""
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    pixels = np.arange(side_px) * 2 * np.pi / rng.uniform(*lengths_px)
    waves = np.add.outer(pixels * np.sin(angle), pixels * np.cos(angle) + phase)
    return np.sin(waves.astype(np.float32))[..., None]


def _background(rng: np.random.Generator, side_px: int, colour: np.ndarray) -> np.ndarray:
    """(S, S, 3) float: one of the textures around `colour`, under a soft change of light."""
    textures = (
        lambda: _smooth_noise(rng, side_px, int(rng.integers(4, 12))),
        lambda: _smooth_noise(rng, side_px, int(rng.integers(40, 90))),
        lambda: np.sign(_wave(rng, side_px, (12, 50))),
        lambda: np.sign(_smooth_noise(rng, side_px, int(rng.integers(6, 20))) - 0.2),
    )
    texture = textures[rng.integers(len(textures))]()
    light = 25 * _smooth_noise(rng, side_px, 3)
    return colour + light + texture * rng.uniform(-35, 35)


def _with_clutter(rng: np.random.Generator, background: np.ndarray) -> np.ndarray:
    """The background (S, S, 3) float with lines, specks and letters on it."""
    image, side = background.clip(0, 255).astype(np.uint8), len(background)

    def point() -> tuple[int, int]:
        x, y = rng.integers(0, side, 2)
        return int(x), int(y)

    for _ in range(rng.integers(0, 5)):
        cv2.line(image, point(), point(), _dull(rng).tolist(), int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 40)):
        cv2.circle(image, point(), int(rng.integers(1, 4)), _dull(rng).tolist(), -1)
    for _ in range(rng.integers(0, 5)):
        scale, letter = rng.uniform(0.4, 1.6) * side / 256, str(rng.choice(list(LETTERS)))
        colour = _dull(rng).tolist()
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
