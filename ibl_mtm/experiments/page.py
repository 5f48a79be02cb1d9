"""The results page: every table and figure with what it shows and how it was made.

write_page([Path("results/ablation"), Path("results/scaling")], Path("docs/results.md"))
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

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


def write_page(folders: Sequence[Path], out: Path) -> None:
    """Write a Markdown page about results, and their figures into a folder beside it.

    Parameters
    ----------
    folders
        What `write_results` wrote, in the order of the page's sections.
    out
        The page; figures go to a folder of its name without the ending.

    Raises
    ------
    UserError
        If a folder holds no results, or two are of the same kind and data.
    """
    results = [read_results(folder) for folder in folders]
    names = [f"{one.kind}-{one.made['dataset']}".replace(", ", "-") for one in results]
    if len(set(names)) < len(names):
        raise UserError("two of the folders hold results of the same kind and dataset")
    sections = [_HEAD]
    figures = out.with_suffix("")
    figures.mkdir(parents=True, exist_ok=True)
    for one, folder, name in zip(results, folders, names, strict=True):
        for ending in (".svg", ".png"):
            shutil.copyfile(Path(folder) / (FIGURE + ending), figures / (name + ending))
        sections.append(_section(one, f"{figures.name}/{name}.png"))
    out.write_text("\n".join(sections), encoding="utf-8")


def _section(results: Results, figure: str) -> str:
    parts = [f"## {results.title}", kind_of(results.kind).question]
    if results.simulated:
        parts.append(
            "These data are **simulated**: an artificial experiment. The last rows tell what its "
            "true firing rates reach, which no model can do better than."
        )
    parts += [markdown_table(results).strip(), caption(results)]
    parts.append(f"![{results.title}]({figure})")
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
