"""`makespan`: the group of commands, loaded one by one so that `--help` stays quick, and the exit codes."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import click

from makespan.errors import EXIT_INTERNAL, EXIT_OK, EXIT_USER, MakespanError
from makespan.version import __version__

COMMANDS = {
    "plan": (
        "makespan.cli.plan",
        "When is the model trained? Every option of a scenario: date with odds, cost, power.",
    ),
    "check": ("makespan.cli.scenario", "Check a scenario file and say what to mend."),
    "init": ("makespan.cli.scenario", "Write a commented starter scenario."),
    "schema": ("makespan.cli.scenario", "Print the JSON Schema of scenario files, or of result.json."),
    "catalog": ("makespan.cli.catalog", "Facts about accelerators, models, clouds, with their sources."),
    "step": ("makespan.cli.step", "Time and memory of one training step."),
    "search": ("makespan.cli.search", "The best layouts of a model on a cluster."),
    "validate": ("makespan.cli.validate", "Predicted against published step times."),
}


_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
"""What a write says when the place behind standard output takes no more."""


class LazyGroup(click.Group):
    """Knows every command's name and summary; imports a command only when it runs or shows its own help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=2)
            hint = f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else " See 'makespan --help'."
            raise click.UsageError(f"no command '{args[0]}'.{hint}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="makespan")
def cli() -> None:
    """When will the model be trained?

    makespan plans large AI training clusters, from the power contract to the trained model: a completion date with
    odds, a cost and a power bill for every way of getting the compute.

    \b
    Try:  makespan plan examples/quickstart.yaml --by 2027-03-01
          makespan init my-cluster.yaml
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit codes: 0 done, 2 wrong input, 3 nothing feasible, 70 our own fault, 130 interrupted."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="makespan", standalone_mode=False
        )
        if sys.stdout is not None:  # None where the shell closed it: `makespan ... >&-`
            sys.stdout.flush()
        return code if isinstance(code, int) else EXIT_OK
    except click.exceptions.Exit as request:
        return request.exit_code
    except click.Abort:
        click.echo("interrupted; nothing was written", err=True)
        return 130
    except click.ClickException as error:
        error.show()
        return EXIT_USER
    except MakespanError as error:
        click.echo(str(error), err=True)
        return error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`makespan ... | head`): no complaint, and none from the interpreter's exit.
        _drop_output()
        return EXIT_OK
    except OSError as error:
        if error.filename is None and error.errno in _NO_ROOM:
            _drop_output()
            click.echo(f"the output cannot be written: {error.strerror}", err=True)
            return EXIT_USER
        if error.filename is None:
            return _internal(error)
        click.echo(f"{error.filename}: {error.strerror or error}", err=True)
        return EXIT_USER
    except KeyboardInterrupt:
        click.echo("interrupted; nothing was written", err=True)
        return 130
    except Exception as error:
        return _internal(error)


def _drop_output() -> None:
    """What is still to be printed goes nowhere, so that the interpreter's own last flush does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _internal(error: BaseException) -> int:
    import traceback

    if os.environ.get("MAKESPAN_DEBUG"):
        traceback.print_exception(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    click.echo(
        f"internal error: {type(error).__name__}: {error} ({os.path.basename(last.filename)}:{last.lineno}, makespan {__version__})\n"
        "This is a fault of makespan, not of your input. Please report it with the command and the scenario;\n"
        "MAKESPAN_DEBUG=1 prints the full trace.",
        err=True,
    )
    return EXIT_INTERNAL
