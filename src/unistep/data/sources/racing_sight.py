"""A driver that has nothing but the picture: it finds the road by its colour and steers towards the middle of it."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from unistep.data.sources.racing_drivers import Action

# Where things are in a frame, as shares of its side, and how many units of the track a side spans.
_CAR_ROW, _BAR_ROW = 0.75, 0.875
_ACROSS, _ALONG = 1000 / (2.7 * 6), 800 / (2.7 * 6)
_RADII = np.arange(7.0, 34.0, 1.0)
_ANGLES = np.radians(np.arange(-115, 116, 2.5))
_TOP = 32.0  # speed beyond which the road comes into sight too late to brake


def drive_by_sight(frame: np.ndarray) -> Action:
    """What to do next, from one frame and nothing else; blurred ones will do.

    The road is followed outwards from the car along arcs around it. The farther it has been seen without a bend, the
    faster the car may go. Speed and turning are read from the instruments in the bar at the bottom.

    Args:
        frame: A frame of the game or of a model of it, uint8 ``[h, w, 3]``.

    Returns:
        Steering, gas and brake.
    """
    speed, turning = read_instruments(frame)
    radii, angles = _course(_road(frame))
    if len(radii) == 0:  # no road anywhere: look round
        return -1.0, 0.15 if speed < 8 else 0.0, 0.0
    reach = int(np.argmin(np.abs(radii - (9.0 + 0.25 * speed))))
    steer = float(np.clip(1.5 * angles[reach] - 0.12 * turning, -1, 1))
    # A bend shows in how far the road has turned aside, and in how soon it is lost from sight.
    aside = np.abs(radii * np.sin(angles - angles[0] * radii[0] / radii))
    bends = 2 * np.maximum(aside - 1.5, 0) / np.square(radii)
    limits = np.sqrt(28.0 / np.maximum(bends, 1e-3) + 2 * 10.0 * np.maximum(radii - 14.0, 0))
    limit = min(_TOP, float(limits.min()), math.sqrt(100 + 2 * 18.0 * max(float(radii[-1]) - 8.0, 0)))
    if abs(angles[reach]) > 1.0:
        limit = min(limit, 10.0)
    pace = limit - speed
    gas = 0.0 if abs(steer) > 0.7 and speed > 15 else min(max(0.1 * pace, 0.0), 0.4)
    return steer, gas, min(max(-0.08 * pace - 0.1, 0.0), 0.7)


def read_instruments(frame: np.ndarray) -> tuple[float, float]:
    """Speed in units per second, and turning to the right in radians per second, from the bar at the bottom.

    The white column grows with the speed, and the red bar with the turning, to its side.
    """
    side = frame.shape[0]
    bar = frame[round(_BAR_ROW * side) :].astype(np.float32) / 255
    pixel = (1000 / side) * (800 / side)  # in those of the game's own window
    column = bar[:, int(side * 5 / 40) : int(np.ceil(side * 6.2 / 40))].min(axis=2)
    speed = max(float(column.sum()) * pixel / 26 - 1, 0.0) / 0.4  # 26 pixels wide, 1 high and 0.4 per unit of speed
    red = np.clip(bar[..., 0] - bar[..., 1:].max(axis=2), 0, 1).sum(axis=0)
    middle = side * 30 // 40
    turned = float(red[middle:].sum() - red[side * 24 // 40 : middle].sum())
    return speed, turned * pixel / (20 * 41)  # 41 pixels high, and 20 wide per radian


def _road(frame: np.ndarray) -> np.ndarray:
    """Where there is road, bool ``[radii, angles]``, along arcs around the car."""
    values = frame.astype(np.float32)
    green = values[..., 1] - (values[..., 0] + values[..., 2]) / 2
    rows, columns = _places(frame.shape[0])
    inside = (rows >= 0) & (rows < int(_BAR_ROW * frame.shape[0])) & (columns >= 0) & (columns < frame.shape[1])
    seen = green[np.clip(rows, 0, frame.shape[0] - 1), np.clip(columns, 0, frame.shape[1] - 1)]
    return inside & (seen < 50)


@lru_cache(maxsize=4)
def _places(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of each point of the arcs, int ``[radii, angles]``."""
    along, across = _RADII[:, None] * np.cos(_ANGLES), _RADII[:, None] * np.sin(_ANGLES)
    rows = np.floor(side * (_CAR_ROW - along / _ALONG)).astype(int)
    return rows, np.floor(side * (0.5 + across / _ACROSS)).astype(int)


def _course(road: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle of the road as far as it can be followed: distances, and angles to the right."""
    radii, angles, last = [], [], 0.0
    for radius, arc in zip(_RADII, road, strict=True):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], arc, [False]]).astype(int)))
        runs = [(_ANGLES[first], _ANGLES[end - 1]) for first, end in zip(edges[::2], edges[1::2], strict=True)]
        if not runs:
            if radii:
                break
            continue
        low, high = min(runs, key=lambda run: max(run[0] - last, last - run[1], 0.0))
        gap = max(low - last, last - high, 0.0)
        if radii and gap > 0.1 + 2.5 / radius:
            break
        last = (low + high) / 2
        radii.append(radius)
        angles.append(last)
    return np.array(radii), np.array(angles)
