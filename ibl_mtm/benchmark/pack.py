"""One submission as the zip that is uploaded, with the folder of its label at its root.

pack(Path("predictions"), label="mtm")              # predictions/mtm.zip
"""

import zipfile
from pathlib import Path

from ibl_mtm.benchmark.submission import open_submission, root_of
from ibl_mtm.disk.replace import replace_file
from ibl_mtm.disk.targets import check_file
from ibl_mtm.errors import UserError

__all__ = ["pack"]


def pack(
    path: Path, out: Path | None = None, *, label: str | None = None, overwrite: bool = False
) -> Path:
    """Pack a submission; the zip appears whole or not at all.

    Parameters
    ----------
    path
        The folder that holds the label's, or the label's.
    out
        The zip; by default ``LABEL.zip`` beside the folder of the label.
    label
        Which submission, where the folder holds several.
    overwrite
        Replace a zip that exists.

    Returns
    -------
    The zip.

    Raises
    ------
    UserError
        If there are several submissions or none, or the zip exists.
    """
    if path.is_file():
        raise UserError(f"{path} is a file; give the folder that holds the predictions")
    with open_submission(path, label) as submissions:
        if len(submissions) > 1:
            known = ", ".join(submissions)
            raise UserError(f"{path} holds several submissions ({known}); choose one with --label")
        ((name, entries),) = submissions.items()
        root = root_of(path)
        target = out or root / f"{name}.zip"
        if target.exists() and not overwrite:
            raise UserError(f"{target} exists; replace it with --overwrite, or give another --out")
        if target.exists() and not zipfile.is_zipfile(target):
            raise UserError(f"{target} is no zip and is not replaced; give another --out")
        check_file(target)

        def write(aside: Path) -> None:
            # Numbers hardly compress: the fastest level gives nearly all there is to gain.
            with zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for entry in entries:
                    archive.write(root / entry.name, entry.name)

        replace_file(target, write)
    return target
