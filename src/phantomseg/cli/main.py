"""The command `phantomseg`: one thin file a sub-command; torch is imported only when one runs."""

from __future__ import annotations

import atexit
import gc
import sys

import typer

from phantomseg import __version__
from phantomseg.cli import card, doctor, evaluate, inspect, prepare, segment, strip, study, synthesize, train
from phantomseg.errors import PhantomSegError, one_sentence

app = typer.Typer(
    help="Train on phantoms, segment the real thing. For research use; not for diagnosis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (segment, strip, inspect, synthesize, prepare, train, evaluate, study, card, doctor):
    app.command(command.__name__.rsplit(".", 1)[1])(command.run)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Show the version and stop.")) -> None:
    """Options of all commands."""
    if version:
        print(__version__)
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; errors raised on purpose become one sentence and exit code 2."""
    atexit.register(gc.freeze)  # half a second less: what is left goes with the process, and not piece by piece
    try:
        app(args=arguments)
    except (PhantomSegError, OSError) as error:
        print(f"error: {one_sentence(error)}", file=sys.stderr)
        sys.exit(2)
