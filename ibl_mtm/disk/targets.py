"""Whether a command can write where it was told to: found out before it computes for hours.

check_folder(Path("runs/mtm"))                      # it may not be there yet
check_file(Path("report.html"))
"""

from pathlib import Path
from tempfile import TemporaryFile

from ibl_mtm.errors import UserError

__all__ = ["can_write", "check_file", "check_folder"]


def check_folder(folder: Path) -> None:
    """Make sure that files can be written into a folder, or that it can be made.

    Raises
    ------
    UserError
        Says why not.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UserError(f"cannot write {folder}: {there} is a file; give the name of a folder")
    try:
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}") from None


def can_write(folder: Path) -> bool:
    """Whether files can be written into a folder, or it can be made."""
    try:
        check_folder(folder)
    except UserError:
        return False
    return True


def check_file(file: Path) -> None:
    """Make sure that a file can be written, or replaced.

    Raises
    ------
    UserError
        Says why not.
    """
    if file.is_dir():
        raise UserError(f"cannot write {file}: it is a folder; give the name of a file")
    check_folder(file.parent)
