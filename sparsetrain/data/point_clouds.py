"""Synthetic shapes as clouds of points whose parts are known exactly: a stand-in for ShapeNet part.

Five kinds of shape with parts like those of ShapeNet, of random proportions: enough to compare methods
on, not to be compared with published numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from sparsetrain.data.surfaces import Cone, Surface, Tube, block, box, closed, disc, draw

# Kind -> its parts; parts are numbered through in this order.
PARTS = {
    "chair": ("seat", "back", "legs"),
    "lamp": ("base", "pole", "shade"),
    "mug": ("body", "handle"),
    "plane": ("body", "wings", "tail", "engines"),
    "table": ("top", "legs"),
}
KINDS = tuple(PARTS)
# Kind -> number of its first part, and one number more than all parts have.
FIRST = np.cumsum([0, *map(len, PARTS.values())])

X, Y, Z = np.eye(3)


class Clouds(NamedTuple):
    """S shapes of N points.

    Attributes:
      points: float32[S, N, 3], their mean at 0, the farthest at distance 1; z is up.
      normals: float32[S, N, 3], of length 1, outwards.
      parts: int32[S, N], 0 up to `FIRST[-1]` - 1, numbered through all kinds.
      kinds: int32[S], places in `KINDS`.
    """

    points: np.ndarray
    normals: np.ndarray
    parts: np.ndarray
    kinds: np.ndarray


def sample(key: jax.Array, count: int, points: int = 2048, first: int = 0) -> Clouds:
    """Draws shapes, the kinds in turn, and points on their surfaces, evenly by area.

    Parts may reach into one another, as a wing into the body, so some points lie inside.

    Args:
      key: of the data.
      count: S.
      points: N of each shape.
      first: number of the first shape; a shape is a function of key and number, so other numbers
        make other splits.

    Returns:
      `Clouds`.

    Example:
      >>> clouds = sample(jax.random.key(0), count=5, points=128)
      >>> [KINDS[kind] for kind in clouds.kinds], clouds.points.shape
      (['chair', 'lamp', 'mug', 'plane', 'table'], (5, 128, 3))
    """
    seed = np.asarray(jax.random.key_data(key)).ravel().tolist()
    shape = (count, points)
    found = Clouds(
        np.empty([*shape, 3], np.float32),
        np.empty([*shape, 3], np.float32),
        np.empty(shape, np.int32),
        (np.arange(first, first + count) % len(KINDS)).astype(np.int32),
    )
    for row, kind in enumerate(found.kinds):
        chance = np.random.default_rng([*seed, first + row])
        parts = MAKERS[KINDS[kind]](chance)
        surfaces = [surface for part in PARTS[KINDS[kind]] for surface in parts[part]]
        of_part = np.repeat(
            FIRST[kind] + np.arange(len(parts)), [len(parts[p]) for p in PARTS[KINDS[kind]]]
        )
        places, normals, which = draw(surfaces, chance, points)
        places -= places.mean(axis=0)
        found.points[row] = places / np.linalg.norm(places, axis=1).max()
        found.normals[row], found.parts[row] = normals, of_part[which]
    return found


Parts = dict[str, list[Surface]]


def _table(chance: np.random.Generator) -> Parts:
    width, depth, height = chance.uniform([0.8, 0.5, 0.4], [1.6, 1.0, 0.9])
    thick, leg = chance.uniform([0.03, 0.04], [0.08, 0.1])
    if chance.random() < 0.3:
        radius = width / 2
        top = closed(height * Z, Z, thick, radius, radius)
        width = depth = radius * np.sqrt(2)
    else:
        top = box((height + thick / 2) * Z, [width, depth, thick])
    return {"top": top, "legs": _legs(width, depth, height, leg)}


def _chair(chance: np.random.Generator) -> Parts:
    width, depth, height, back = chance.uniform([0.4, 0.4, 0.35, 0.4], [0.6, 0.6, 0.55, 0.8])
    thick, leg, lean = chance.uniform([0.03, 0.03, 0.0], [0.08, 0.06, 0.15])
    seat = box((height + thick / 2) * Z, [width, depth, thick])
    corner = np.array([-width / 2, depth / 2, height + thick])
    rest = block(corner, width * X, back * Z + lean * Y, -thick * Y)
    return {"seat": seat, "back": rest, "legs": _legs(width, depth, height, leg)}


def _legs(width: float, depth: float, height: float, leg: float) -> list[Surface]:
    """Four legs of square section, flush with the corners."""
    x, y = (width - leg) / 2, (depth - leg) / 2
    corners = [(sx * x, sy * y, height / 2) for sx in (-1, 1) for sy in (-1, 1)]
    return [face for corner in corners for face in box(corner, [leg, leg, height])]


def _lamp(chance: np.random.Generator) -> Parts:
    foot, flat, pole, height = chance.uniform([0.15, 0.02, 0.01, 0.5], [0.3, 0.08, 0.03, 1.2])
    wide, narrow, tall = chance.uniform([0.2, 0.05, 0.15], [0.4, 0.18, 0.4])
    base = closed(0 * Z, Z, flat, foot, foot * chance.uniform(0.6, 1.0))
    # Open at both ends.
    shade = Cone((flat + height - 0.8 * tall) * Z, Z, tall, wide, narrow)
    return {"base": base, "pole": [Cone(flat * Z, Z, height, pole, pole)], "shade": [shade]}


def _mug(chance: np.random.Generator) -> Parts:
    radius, height, slope = chance.uniform([0.3, 0.6, -0.05], [0.45, 1.0, 0.05])
    ring, tube = height * chance.uniform(0.22, 0.35), chance.uniform(0.03, 0.06)
    middle = height / 2 * Z + (radius + slope / 2) * X
    return {
        "body": [Cone(0 * Z, Z, height, radius, radius + slope), disc(0 * Z, -Z, radius)],
        # Half a ring in the plane of x and z, away from the body.
        "handle": [Tube(middle, -Y, ring, tube, -np.pi / 2, np.pi / 2)],
    }


def _plane(chance: np.random.Generator) -> Parts:
    radius, length, nose, rear = chance.uniform([0.07, 1.2, 0.1, 0.2], [0.12, 1.8, 0.3, 0.5])
    span, chord, sweep, thin = chance.uniform([0.6, 0.2, 0.1, 0.02], [1.0, 0.4, 0.5, 0.04])
    fin, turbine = chance.uniform([0.2, 0.035], [0.35, 0.06])
    body: list[Surface] = [
        Cone(0 * X, X, length, radius, radius),
        Cone(0 * X, -X, nose, radius, 0.0),
        Cone(length * X, X, rear, radius, 0.3 * radius),
    ]
    wings, engines = [], []
    tail = block([length + 0.5 * rear, -thin / 2, 0], chord / 2 * X, thin * Y, fin * Z + 0.1 * X)
    for side in (-1, 1):
        # The nose looks to -x, so what is swept goes to +x.
        wings += block([0.4 * length, 0, -thin], chord * X, side * span * Y + sweep * X, thin * Z)
        flat = side * 0.35 * span * Y + 0.1 * X
        tail += block([length + 0.5 * rear, 0, 0], chord / 2 * X, flat, thin * Z)
        below = np.array([0.4 * length + 0.4 * sweep, side * 0.4 * span, -thin - turbine])
        engines += closed(below, X, 0.8 * chord, turbine, 0.7 * turbine)
    return {"body": body, "wings": wings, "tail": tail, "engines": engines}


MAKERS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "chair": _chair,
    "lamp": _lamp,
    "mug": _mug,
    "plane": _plane,
    "table": _table,
}
