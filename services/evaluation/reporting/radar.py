"""A radar chart as inline SVG: one axis a category, one outline a target."""

import math
from collections.abc import Mapping, Sequence
from html import escape

SIZE = 420
RADIUS = 140
RINGS = 4
COLOURS = ("#6b7280", "#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d")


def radar(axes: Sequence[str], outlines: Mapping[str, Sequence[float]], title: str) -> str:
    """Return an <svg> with each target's values, from 0 to 1, and a legend; nothing for less than three axes."""
    if len(axes) < 3:
        return ""
    parts = [
        f'<svg role="img" aria-label="{escape(title)}" viewBox="0 0 {SIZE} {SIZE}" width="{SIZE}" height="{SIZE}">'
    ]
    for ring in range(1, RINGS + 1):
        parts.append(f'<polygon class="ring" points="{_points([ring / RINGS] * len(axes))}"/>')
    for index, name in enumerate(axes):
        x, y = _place(index, len(axes), 1.0)
        parts.append(f'<line class="ring" x1="{SIZE / 2}" y1="{SIZE / 2}" x2="{x:.1f}" y2="{y:.1f}"/>')
        x, y = _place(index, len(axes), 1.18)
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle">{escape(name)}</text>')
    for number, (label, values) in enumerate(outlines.items()):
        colour = COLOURS[number % len(COLOURS)]
        style = f'fill="{colour}" fill-opacity="0.12" stroke="{colour}" stroke-width="2"'
        parts.append(f'<polygon points="{_points(values)}" {style}><title>{escape(label)}</title></polygon>')
        y = SIZE - 14 * (len(outlines) - number)
        parts.append(f'<rect x="8" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="24" y="{y}">{escape(label)}</text>')
    return "".join([*parts, "</svg>"])


def _place(index: int, count: int, share: float) -> tuple[float, float]:
    angle = 2 * math.pi * index / count - math.pi / 2
    return SIZE / 2 + RADIUS * share * math.cos(angle), SIZE / 2 - 20 + RADIUS * share * math.sin(angle)


def _points(values: Sequence[float]) -> str:
    places = [_place(index, len(values), min(1.0, max(0.0, value))) for index, value in enumerate(values)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
