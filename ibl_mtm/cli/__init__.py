"""The command line: each command parses its arguments, calls one function, prints its result.

Results go to standard output (one JSON document with ``--json``); progress, logs and errors go
to standard error. Exit codes: 0 done, 1 some sessions failed, 2 the request itself was wrong,
130 and 143 stopped by Ctrl-C or SIGTERM, 70 a defect of this program.
"""

import logging
import os
import re
import signal
import sys
import traceback
from typing import Annotated, NoReturn

import typer

from ibl_mtm import logs

# In the order in which the help lists commands.
from ibl_mtm._provenance import __version__
from ibl_mtm.cli import benchmark, data, models, scores, setup  # noqa: F401
from ibl_mtm.cli.app import app
from ibl_mtm.errors import SessionError, StoppedError, UserError

__all__ = ["DEFECT", "app", "main"]

#: Packages that an installation may do without, by the extra that brings them.
_EXTRAS = {
    "nwb": ("pynwb", "hdmf"),
    "ingest": (
        "one",
        "ibllib",
        "brainbox",
        "iblatlas",
        "iblutil",
        "dask",
        "distributed",
        "requests",
    ),
    "remote": ("obstore",),
    "brainsets": ("h5py",),
    "workflows": ("snakemake",),
    "hub": ("huggingface_hub",),
    "wandb": ("wandb",),
}
#: What sysexits.h calls an internal software error.
DEFECT = 70
#: What shells say of a program that Ctrl-C ended.
STOPPED = 128 + signal.SIGINT


_TILDE = re.compile(r"^(--?[\w-]+=|)(~[\w-]*)(?=/|$)")


def main() -> None:
    """Entry point of ``ibl-mtm``."""
    # Shells leave it as it is after an equals sign: --cache=~/cache.zarr.
    sys.argv[1:] = [_TILDE.sub(_expand, argument) for argument in sys.argv[1:]]
    try:
        app(_debug_first(sys.argv[1:]))
    except SystemExit as ended:
        if ended.code == STOPPED:
            _end_at_once(STOPPED)
        raise
    except (UserError, SessionError) as error:
        if "--debug" in sys.argv:
            raise
        typer.secho(f"ibl-mtm: {error}", err=True, fg="red")
        sys.exit(2)
    except StoppedError as stopped:
        typer.secho(f"ibl-mtm: {stopped}", err=True, fg="yellow")
        sys.exit(128 + stopped.signal)
    except ModuleNotFoundError as error:
        needed = (error.name or "").partition(".")[0]
        extra = next((name for name, modules in _EXTRAS.items() if needed in modules), None)
        if extra is None or "--debug" in sys.argv:
            _end_as_defect()
        message = f"this needs {needed}, which is not installed: pip install 'ibl-mtm[{extra}]'"
        typer.secho(f"ibl-mtm: {message}", err=True, fg="red")
        sys.exit(2)
    except OSError as error:
        if "--debug" in sys.argv or error.filename is None:
            _end_as_defect()
        typer.secho(f"ibl-mtm: {error.filename}: {error.strerror}", err=True, fg="red")
        sys.exit(2)
    except Exception:
        _end_as_defect()


def _debug_first(arguments: list[str]) -> list[str]:
    """Take ``--debug`` behind a command too, where people write it when something went wrong."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--debug" not in options:
        return arguments
    return ["--debug", *(word for word in options if word != "--debug"), *arguments[len(options) :]]


def _end_at_once(code: int) -> NoReturn:
    """End without the seconds that libraries take to close what nobody needs any more.

    What is ours is closed: the command has ended.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def _end_as_defect() -> NoReturn:
    """End with the traceback, and another code than that of a session which failed."""
    sys.stderr.write(logs.redact(traceback.format_exc()))
    typer.secho(f"ibl-mtm {__version__}: this is a defect; please report it", err=True, fg="red")
    sys.exit(DEFECT)


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def _expand(tilde: re.Match[str]) -> str:
    return tilde[1] + os.path.expanduser(tilde[2])


@app.callback()
def configure(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks and all logs.")] = False,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", is_eager=True, callback=_show_version),
    ] = False,
) -> None:
    """Set up logging; runs before every command."""
    logs.configure(logging.DEBUG if debug else logging.WARNING)
