"""Pieces of surface that points are drawn from evenly: parallelograms, cones, tubes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Vector = Sequence[float] | np.ndarray


class Surface(Protocol):
    """What points can be drawn from."""

    @property
    def area(self) -> float:
        """Its area."""
        ...

    def draw(self, chance: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Points float64[N, 3] and outward normals of length 1, evenly by area."""
        ...


@dataclass(frozen=True)
class Parallelogram:
    """All of corner + s u + t v with s and t in [0, 1]; its outside is where u x v points.

    Attributes:
      corner: float[3].
      u: float[3], a side.
      v: float[3], the other.
    """

    corner: np.ndarray
    u: np.ndarray
    v: np.ndarray

    @property
    def area(self) -> float:
        return float(np.linalg.norm(np.cross(self.u, self.v)))

    def draw(self, chance: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        s, t = chance.random([2, count, 1])
        normal = np.cross(self.u, self.v) / self.area
        return self.corner + s * self.u + t * self.v, np.tile(normal, [count, 1])


@dataclass(frozen=True)
class Cone:
    """Side of a cut cone: a cylinder if both radii are equal, a disc if height and last are 0.

    Attributes:
      base: float[3], centre of the first circle.
      axis: float[3], of length 1, towards the last circle; the outside of a disc.
      height: between the circles, >= 0.
      first: radius of the first circle.
      last: radius of the last.
    """

    base: np.ndarray
    axis: np.ndarray
    height: float
    first: float
    last: float

    @property
    def area(self) -> float:
        return float(
            np.pi * (self.first + self.last) * np.hypot(self.height, self.first - self.last)
        )

    def draw(self, chance: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        share, turn = chance.random([2, count])
        # Circles have points by their length: the square of the radius is even between the ends'.
        radius = np.sqrt(self.first**2 + share * (self.last**2 - self.first**2))
        change = self.last - self.first
        along = (radius - self.first) / change if change else share
        outward = _circle(self.axis, 2 * np.pi * turn)
        points = self.base + (self.height * along)[:, None] * self.axis + radius[:, None] * outward
        normals = self.height * outward - change * self.axis
        return points, normals / np.hypot(self.height, change)


@dataclass(frozen=True)
class Tube:
    """Part of a ring, open at its ends.

    Attributes:
      centre: float[3], of the ring.
      axis: float[3], of length 1, that the ring goes round.
      ring: radius of the ring, to the middle of the tube.
      radius: of the tube, below that of the ring.
      start: angle where it begins, from the direction that `_circle` begins with.
      stop: angle where it ends.
    """

    centre: np.ndarray
    axis: np.ndarray
    ring: float
    radius: float
    start: float = 0.0
    stop: float = 2 * np.pi

    @property
    def area(self) -> float:
        return float((self.stop - self.start) * self.ring * 2 * np.pi * self.radius)

    def draw(self, chance: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        share, turn = chance.random([2, count])
        angles = np.linspace(-np.pi, np.pi, 1025)
        # The outer half of the tube has more area: density ring + radius cos, integrated and inverted.
        mass = self.ring * (angles + np.pi) + self.radius * np.sin(angles)
        around = np.interp(turn * mass[-1], mass, angles)
        outward = _circle(self.axis, self.start + share * (self.stop - self.start))
        normals = np.cos(around)[:, None] * outward + np.sin(around)[:, None] * self.axis
        return self.centre + self.ring * outward + self.radius * normals, normals


def disc(centre: Vector, axis: Vector, radius: float) -> Cone:
    """A disc.

    Args:
      centre: float[3].
      axis: float[3], of length 1, towards its outside.
      radius: of the disc.

    Returns:
      The surface.

    Example:
      >>> round(disc([0, 0, 0], [0, 0, 1], radius=2.0).area / np.pi, 6)
      4.0
    """
    return Cone(np.asarray(centre, float), np.asarray(axis, float), 0.0, radius, 0.0)


def closed(base: Vector, axis: Vector, height: float, first: float, last: float) -> list[Surface]:
    """A cut cone with its two discs.

    Args:
      base: float[3], centre of the first circle.
      axis: float[3], of length 1, towards the last circle.
      height: between the circles.
      first: radius of the first circle.
      last: radius of the last; 0 for a pointed cone.

    Returns:
      Its surfaces.

    Example:
      >>> len(closed([0, 0, 0], [0, 0, 1], height=1.0, first=1.0, last=0.0))
      2
    """
    start, along = np.asarray(base, float), np.asarray(axis, float)
    end = start + height * along
    found: list[Surface] = [Cone(start, along, height, first, last)]
    ends = ((start, -along, first), (end, along, last))
    return found + [disc(centre, out, radius) for centre, out, radius in ends if radius]


def block(corner: Vector, u: Vector, v: Vector, w: Vector) -> list[Surface]:
    """The six faces of a slanted box.

    Args:
      corner: float[3].
      u: float[3], an edge from there.
      v: float[3], the second.
      w: float[3], the third.

    Returns:
      Its surfaces.

    Example:
      >>> sum(face.area for face in block([0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 2]))
      10.0
    """
    at, a, b, c = (np.asarray(vector, float) for vector in (corner, u, v, w))
    if np.dot(np.cross(a, b), c) < 0:
        a, b = b, a
    found: list[Surface] = []
    for edge, one, other in ((a, b, c), (b, c, a), (c, a, b)):
        found += [Parallelogram(at + edge, one, other), Parallelogram(at, other, one)]
    return found


def box(centre: Vector, size: Vector) -> list[Surface]:
    """The six faces of an upright box.

    Args:
      centre: float[3].
      size: float[3], lengths of its edges.

    Returns:
      Its surfaces.

    Example:
      >>> len(box([0, 0, 0], [1, 2, 3]))
      6
    """
    lengths = np.asarray(size, float)
    return block(np.asarray(centre) - lengths / 2, *np.diag(lengths))


def draw(
    surfaces: Sequence[Surface], chance: np.random.Generator, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of several surfaces, evenly by area.

    Args:
      surfaces: to draw from.
      chance: where the random numbers come from.
      count: N.

    Returns:
      Points float64[N, 3], their normals float64[N, 3], and int64[N], which surface each is of.

    Example:
      >>> points, normals, which = draw(box([0, 0, 0], [2, 2, 2]), np.random.default_rng(0), 4)
      >>> np.abs(points).max(axis=1)
      array([1., 1., 1., 1.])
    """
    areas = np.array([surface.area for surface in surfaces])
    which = chance.choice(len(areas), count, p=areas / areas.sum())
    points, normals = np.empty([count, 3]), np.empty([count, 3])
    for number, surface in enumerate(surfaces):
        own = which == number
        points[own], normals[own] = surface.draw(chance, int(own.sum()))
    return points, normals, which


def _circle(axis: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """float64[N, 3], directions at right angles to an axis; of z it is x at 0 and y at a quarter."""
    first = np.cross([0.0, 1.0, 0.0] if abs(axis[1]) < 0.9 else [0.0, 0.0, 1.0], axis)
    first /= np.linalg.norm(first)
    second = np.cross(axis, first)
    return np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * second
