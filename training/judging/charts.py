"""Charts as SVG text: lines and heat maps in panels of one size, side by side on white."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, HEIGHT, MARGIN = 420, 320, 56  # of a panel, in pixels
COLOURS = ("#4f46e5", "#d97706", "#059669", "#db2777", "#0891b2", "#888888")
DARK = (49, 46, 129)  # of the best cell of a heat map; the worst is white

Points = Sequence[tuple[float, float]]
Panel = list[str]


def chart(panels: Sequence[Panel]) -> str:
    """Panels side by side as one SVG document."""
    body = "".join(
        f'<g transform="translate({WIDTH * place},0)">{"".join(one)}</g>' for place, one in enumerate(panels)
    )
    return svg(WIDTH * len(panels), HEIGHT, [body])


def svg(width: int, height: int, parts: Sequence[str]) -> str:
    """The drawn parts on white, as one SVG document of this size in pixels."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
    return f'{head}font-size="13"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'


def line_panel(
    title: str,
    across: str,
    lines: Mapping[str, Points],
    *,
    logarithmic: bool = False,
    dots: bool = True,
    upright: tuple[float, str] | None = None,
) -> Panel:
    """Lines by name, with the least and greatest value on each axis.

    Args:
        title: the quantity on the vertical axis.
        across: the quantity on the horizontal axis, `logarithmic` or not; with `dots`, every point's value is written.
        upright: a value on that axis to mark with a dashed line, and its name.
    """
    points = [point for line in lines.values() for point in line]
    scale = math.log if logarithmic else float
    left, right = (scale(pick(x for x, _ in points)) for pick in (min, max))
    low, high = (pick(y for _, y in points) for pick in (min, max))

    def place(x: float, y: float) -> tuple[float, float]:
        share, up = (scale(x) - left) / max(right - left, 1e-9), (y - low) / max(high - low, 1e-9)
        return MARGIN + share * (WIDTH - 2 * MARGIN), HEIGHT - MARGIN - up * (HEIGHT - 2 * MARGIN)

    drawn = [_text(8, 20, title), _text(WIDTH / 2, HEIGHT - 10, across, "middle")]
    for row, (name, line) in enumerate(lines.items()):
        places, colour = [place(*point) for point in line], COLOURS[row % len(COLOURS)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places if dots]
        if len(lines) > 1:
            drawn.append(_text(WIDTH - 12, MARGIN + 18 * row, name, "end", colour))
    marks = sorted({x for x, _ in points}) if dots else [min(x for x, _ in points), max(x for x, _ in points)]
    drawn += [_text(place(x, low)[0], HEIGHT - 34, f"{x:.4g}", "middle") for x in marks]
    drawn += [_text(MARGIN - 10, place(points[0][0], y)[1] + 4, f"{y:.4g}", "end") for y in sorted({low, high})]
    if upright:
        x, _ = place(upright[0], low)
        drawn.append(f'<path d="M{x:.1f} {MARGIN - 14}V{HEIGHT - MARGIN}" stroke="#666" stroke-dasharray="4 3"/>')
        drawn.append(_text(x + 4, MARGIN - 14, upright[1]))
    return drawn


def heat_panel(
    title: str,
    down: tuple[str, Sequence[str]],
    across: tuple[str, Sequence[str]],
    values: Sequence[Sequence[float]],
    *,
    shown: str,
    less_is_better: bool,
) -> Panel:
    """A table of values as coloured cells, the best one darkest.

    Args:
        down: what the rows are, and the name of each.
        across: what the columns are, and the name of each.
        values: one sequence per row.
        shown: the format of a value, such as ".0f".
    """
    everything = [value for row in values for value in row]
    worst, best = (max(everything), min(everything)) if less_is_better else (min(everything), max(everything))
    cell = (WIDTH - 2 * MARGIN) / len(across[1]), (HEIGHT - 2 * MARGIN) / len(down[1])
    drawn = [_text(8, 20, title), _text(8, MARGIN - 12, down[0]), _text(WIDTH / 2, HEIGHT - 10, across[0], "middle")]
    for row, name in enumerate(down[1]):
        top = MARGIN + row * cell[1]
        drawn.append(_text(MARGIN - 10, top + cell[1] / 2 + 4, name, "end"))
        for column, value in enumerate(values[row]):
            goodness = (value - worst) / (best - worst) if best != worst else 0.0
            colour = ",".join(f"{255 + (tone - 255) * goodness:.0f}" for tone in DARK)
            left = MARGIN + column * cell[0]
            box = f'x="{left:.1f}" y="{top:.1f}" width="{cell[0]:.1f}" height="{cell[1]:.1f}"'
            drawn.append(f'<rect {box} fill="rgb({colour})" stroke="#ccc"/>')
            ink = "white" if goodness > 0.5 else "#222"
            drawn.append(_text(left + cell[0] / 2, top + cell[1] / 2 + 4, f"{value:{shown}}", "middle", ink))
    middles = [MARGIN + (column + 0.5) * cell[0] for column in range(len(across[1]))]
    drawn += [_text(x, HEIGHT - 36, name, "middle") for x, name in zip(middles, across[1], strict=True)]
    return drawn


def _text(x: float, y: float, words: str, anchor: str = "start", colour: str = "#666") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'
