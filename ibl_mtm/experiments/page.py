"""The results page: every table and figure with what it shows and how it was made.

write_page([Path("results/ablation"), Path("results/scaling")], Path("docs/results.md"))
"""

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ibl_mtm.disk.targets import check_file
from ibl_mtm.errors import UserError
from ibl_mtm.experiments.kinds import kind_of
from ibl_mtm.experiments.result_table import caption, difference_table, markdown_table
from ibl_mtm.experiments.results import Results, read_results
from ibl_mtm.experiments.write import FIGURE

__all__ = ["write_page"]

_HEAD = """\
# Results

This page is made by the workflows in `pipelines/` (`ibl-mtm results page`); do not edit it. \
What was tried along the way, and why a thing is not seen: [experiments.md](experiments.md).
"""


def write_page(folders: Sequence[Path], out: Path, keep: bool = False) -> None:
    """Write a Markdown page about results, and their figures into a folder beside it.

    Parameters
    ----------
    folders
        What `write_results` wrote, in the order of the page's sections.
    out
        The page; figures go to a folder of its name without the ending.
    keep
        Whether sections under other titles, of a page that is there, stay behind these.

    Raises
    ------
    UserError
        If a folder holds no results, two are of the same kind, data and split, or the page cannot
        be written.
    """
    check_file(out)
    results = [read_results(folder) for folder in folders]
    names = [f"{one.kind}-{one.made['dataset']}".replace(", ", "-") for one in results]
    splits = ["; ".join(one.made["splits"]) for one in results]
    if len(set(zip(names, splits, strict=True))) < len(names):
        raise UserError("two of the folders hold results of the same kind, dataset and split")
    several = [names.count(name) > 1 for name in names]
    names = [
        f"{name}-{re.sub('[^0-9a-z]+', '-', split.lower()).strip('-')}" if more else name
        for name, split, more in zip(names, splits, several, strict=True)
    ]
    sections, titles = [_HEAD], []
    figures = out.with_suffix("")
    figures.mkdir(parents=True, exist_ok=True)
    for one, folder, name, split, more in zip(
        results, folders, names, splits, several, strict=True
    ):
        for ending in (".svg", ".png"):
            shutil.copyfile(Path(folder) / (FIGURE + ending), figures / (name + ending))
        title = f"{one.title}: {split}" if more else one.title
        sections.append(_section(one, title, f"{figures.name}/{name}.png"))
        titles.append(title)
    if keep and out.is_file():
        sections += _others(out.read_text(encoding="utf-8"), titles)
    out.write_text("\n".join(sections), encoding="utf-8")


def _others(page: str, titles: Sequence[str]) -> list[str]:
    """The sections of a page under other titles."""
    _, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    return [
        section.rstrip() + "\n"
        for section in sections
        if section.partition("\n")[0].removeprefix("## ") not in titles
    ]


def _section(results: Results, title: str, figure: str) -> str:
    parts = [f"## {title}", kind_of(results.kind).question]
    if results.simulated:
        parts.append(
            "These data are **simulated**: an artificial experiment. The last rows tell what its "
            "true firing rates reach, which no model can do better than."
        )
    parts += [markdown_table(results).strip(), caption(results)]
    parts.append(f"![{title}]({figure})")
    if differences := difference_table(results).strip():
        parts += ["Differences, paired by session and seed:", differences]
    if results.findings:
        parts.append("What was to be seen:")
        parts.append(
            "\n".join(
                f"- {'' if finding.seen else '**'}{finding.verdict}{'' if finding.seen else '**'}: "
                f"{finding.claim} ({finding.numbers})."
                for finding in results.findings
            )
        )
    parts += ["How it was made:", _how(results)]
    return "\n\n".join(parts) + "\n"


def _how(results: Results) -> str:
    made = results.made
    minutes = made["training_seconds"] / 60, made["evaluation_seconds"] / 60
    threads = _numbers(made["threads"])
    on = f", each on {threads} {'thread' if threads == '1' else 'threads'}" if threads else ""
    facts = {
        "Command": f"`{made['command']}`" if made["command"] else "",
        "Data": f"dataset `{made['dataset']}`{', simulated' if results.simulated else ''}; "
        f"trials split {'; '.join(made['splits'])}",
        "Seeds": _numbers(made["seeds"]),
        "Time": f"{made['n_trainings']} trainings took {minutes[0]:.0f} min in all{on}; "
        f"{made['n_runs']} evaluations {minutes[1]:.0f} min",
        "Commit": ", ".join(f"`{commit}`" for commit in made["commits"]),
        "Date": made["date"],
    }
    return "\n".join(f"- {name}: {text}" for name, text in facts.items() if text)


def _numbers(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
