"""The look of all figures, on paper and inside a page that may be light or dark.

@styled
def raster(spikes: xr.DataArray) -> Figure:
    figure, axes = panel("One trial")
    ...

svg = save_figure(raster(spikes), Path("figures/raster"))   # .svg and .png
inline_svg(svg, "raster")                                # for a page with `css_colors`
"""

import functools
import io
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

__all__ = [
    "CONDITION_COLORS",
    "INK",
    "MUTED",
    "ON_STRONG",
    "RULE",
    "RUN_COLORS",
    "SHADES",
    "SIGNED_SHADES",
    "Look",
    "css_colors",
    "draw_means",
    "finish_rows",
    "inline_svg",
    "legend_below",
    "panel",
    "robust_range",
    "run_colors",
    "run_entries",
    "save_figure",
    "short_name",
    "spread_around_zero",
    "styled",
    "write_cells",
]

_PALETTE = {  # name: on a light ground, on a dark one
    "ink": ("#1f252d", "#e4e8ed"),
    "muted": ("#626d7a", "#9ba6b3"),
    "rule": ("#d9dfe6", "#3a434e"),
    "run-0": ("#1f5fa8", "#74b3f5"),
    "run-1": ("#c4690f", "#f2a659"),
    "run-2": ("#2b8259", "#68c79a"),
    "run-3": ("#7c4fae", "#bd97ea"),
    "run-4": ("#b03a5b", "#f08aa6"),
    "run-5": ("#6b6a1e", "#c2c062"),
    "condition-0": ("#0e7c86", "#4cc4cf"),
    "condition-1": ("#b8327a", "#f285bb"),
    "condition-2": ("#a06a00", "#e0ae4b"),
    "condition-3": ("#54606e", "#a9b4c0"),
}
# On the strongest shades of images, which a dark page inverts.
_ON_IMAGES = {"on-strong": ("#f4f7fa", "#10151b")}
INK, MUTED, RULE = (_PALETTE[name][0] for name in ("ink", "muted", "rule"))
ON_STRONG = _ON_IMAGES["on-strong"][0]
RUN_COLORS = [light for name, (light, _) in _PALETTE.items() if name.startswith("run")]
CONDITION_COLORS = [light for name, (light, _) in _PALETTE.items() if name.startswith("cond")]

SHADES = LinearSegmentedColormap.from_list(
    "shades", [(*to_rgb("#1f5fa8"), 0.0), (*to_rgb("#1f5fa8"), 0.85), (*to_rgb("#0b2f5c"), 1.0)]
)
"""Of images: transparent where there is nothing, so that they lie on any ground."""

# Below zero in another colour: it is worse than nothing.
SIGNED_SHADES = SHADES.with_extremes(under=(*to_rgb("#b03a5b"), 0.35))

_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelsize": 8,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "legend.handlelength": 1.6,
    "legend.borderaxespad": 0.2,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "text.parse_math": False,  # names of runs may hold a $
}

P = ParamSpec("P")
Look = dict[str, Any]
"""Properties of a line in a legend: color, lw, marker and so on."""


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw with the package's style, whatever the caller's matplotlib is set to."""

    @functools.wraps(draw)
    def draw_with_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(_STYLE)
            return draw(*args, **kwargs)

    return draw_with_style


def panel(title: str, width: float = 4.6, height: float = 3.0) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, in inches, small enough to be read on a phone."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes


def legend_below(figure: Figure, entries: Iterable[tuple[str, Look]]) -> None:
    """A legend below the axes, where no data can lie; entries are (label, look)."""
    handles = [Line2D([], [], label=label, **look) for label, look in entries]
    inches = sum(0.36 + 0.054 * len(str(handle.get_label())) for handle in handles)
    rows = math.ceil(inches / figure.get_figwidth())
    figure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=math.ceil(len(handles) / rows),
        columnspacing=1.2,
    )


def run_colors(table: pd.DataFrame) -> dict[str, str]:
    """The runs that a table with a column run has rows of, and their colours.

    Colours go by the order of a categorical column, else by the order of appearance.
    """
    present = list(table["run"].unique())
    categorical = isinstance(table["run"].dtype, pd.CategoricalDtype)
    order = table["run"].cat.categories if categorical else present
    colors = dict(zip(order, RUN_COLORS, strict=False))
    return {run: color for run, color in colors.items() if run in present}


def run_entries(colors: dict[str, str], marker: str = "o", ls: str = "") -> list[tuple[str, Look]]:
    """Entries of a legend for runs, in their colours."""
    look = {"marker": marker, "ls": ls, "ms": 5.5}
    return [(short_name(run), {"color": color, **look}) for run, color in colors.items()]


def short_name(name: str, most: int = 22) -> str:
    """The end of a name that would be too long for a figure."""
    return name if len(name) <= most else "…" + name[1 - most :]


def robust_range(scores: NDArray[np.float64]) -> tuple[float, float]:
    """Limits that a few units far off do not stretch; zero is always within."""
    low, high = np.quantile(scores, [0.01, 0.99])
    low, high = min(float(low), 0.0), max(float(high), 0.05)
    margin = 0.06 * (high - low)
    return low - margin, high + margin


def finish_rows(axes: Axes, names: list[str]) -> None:
    """Name the rows of dots on an axis of scores, and mark zero."""
    axes.set_yticks(range(len(names)), names, color=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=MUTED, lw=0.7, zorder=0)
    axes.grid(axis="x", color=RULE, lw=0.6)
    axes.set_axisbelow(True)


def draw_means(axes: Axes, table: pd.DataFrame, kind: str, kinds: list[str], width: float) -> None:
    """Dots of every run, a row for each of `kinds`, with standard errors where they are known.

    `table` has columns run, bits_per_spike, sem and the one that `kind` names.
    """
    runs = run_colors(table)
    for (run, color), offset in zip(
        runs.items(), spread_around_zero(len(runs), width), strict=False
    ):
        own = table[table["run"] == run].set_index(kind).reindex(kinds)
        axes.errorbar(
            own["bits_per_spike"],
            np.arange(len(kinds)) + offset,
            xerr=own["sem"].fillna(0),
            fmt="o",
            color=color,
            markersize=5.5,
            elinewidth=1.4,
        )


def write_cells(
    axes: Axes, values: NDArray[np.float64], digits: int, strong: float, size: float
) -> None:
    """Numbers of the cells of an image that have one; above `strong` on a dark shade."""
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        value = values[row, column]
        # What is written as nothing has no sign.
        text = f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")
        color = ON_STRONG if value > strong else INK
        axes.text(column, row, text, ha="center", va="center", fontsize=size, color=color)


def spread_around_zero(n: int, width: float) -> NDArray[np.float64]:
    """Places (n,) of so many dots side by side, within `width`."""
    spread: NDArray[np.float64] = ((np.arange(n) + 0.5) / n - 0.5) * width
    return spread


def save_figure(figure: Figure, path: Path | None) -> str:
    """Write `path`.svg and `path`.png, on white; the same figure gives the same bytes.

    Parameters
    ----------
    figure
        The figure.
    path
        Its name without an ending; None: write nothing.

    Returns
    -------
    The text of the SVG file.
    """
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "ibl-mtm"}):
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    if path is None:
        return file.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    # Where everything lies is settled now, and settling it is half of the time.
    figure.set_layout_engine("none")
    figure.savefig(path.with_name(path.name + ".png"), dpi=160, metadata={"Software": None})
    path.with_name(path.name + ".svg").write_text(file.getvalue(), encoding="utf-8")
    return file.getvalue()


def inline_svg(svg: str, name: str) -> str:
    """An element for a page: its colours and typeface from the page, its ids its own.

    Parameters
    ----------
    svg
        The text of an SVG file that `save_figure` wrote.
    name
        Unique among the page's figures.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"\s*\n\s*", " ", svg)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg)
    # A drawing scales with the page; only the proportions are its own.
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'\sid="', f' id="{name}-', svg)
    svg = svg.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    for variable, (light, _) in (_PALETTE | _ON_IMAGES).items():
        svg = svg.replace(light, f"var(--{variable})")
    return svg.replace("fill: #ffffff", "fill: none")


def css_colors(*, dark: bool) -> str:
    """Declarations of the colours that inline figures refer to."""
    colors = (_PALETTE | _ON_IMAGES).items()
    return " ".join(f"--{name}: {pair[dark]};" for name, pair in colors)
