"""The command line: each command parses its arguments, calls one function, prints its result.

Results go to standard output (one JSON document with ``--json``); progress, logs and errors go
to standard error. Exit codes: 0 done, 1 some sessions failed, 2 the request itself was wrong,
130 and 143 stopped by Ctrl-C or SIGTERM, 70 a defect of this program.
"""

import logging
import sys
import traceback
from typing import Annotated, NoReturn

import typer

# In the order in which the help lists commands.
from ibl_mtm._provenance import __version__
from ibl_mtm.cli import data, models, scores  # noqa: F401
from ibl_mtm.cli.app import app
from ibl_mtm.errors import SessionError, StoppedError, UserError

__all__ = ["DEFECT", "app", "main"]

#: What sysexits.h calls an internal software error.
DEFECT = 70


def main() -> None:
    """Entry point of ``ibl-mtm``."""
    try:
        app()
    except (UserError, SessionError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"ibl-mtm: {error}", err=True, fg="red")
        sys.exit(2)
    except StoppedError as stopped:
        typer.secho(f"ibl-mtm: {stopped}", err=True, fg="yellow")
        sys.exit(128 + stopped.signal)
    except OSError as error:
        if "--debug" in sys.argv or error.filename is None:
            _end_as_defect()
        typer.secho(f"ibl-mtm: {error.filename}: {error.strerror}", err=True, fg="red")
        sys.exit(2)
    except Exception:
        _end_as_defect()


def _end_as_defect() -> NoReturn:
    """End with the traceback, and another code than that of a session which failed."""
    traceback.print_exc()
    typer.secho(f"ibl-mtm {__version__}: this is a defect; please report it", err=True, fg="red")
    sys.exit(DEFECT)


@app.callback()
def configure(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Set up logging; runs before every command."""
    if version:
        typer.echo(__version__)
        raise typer.Exit
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(levelname)s %(name)s: %(message)s",
    )
