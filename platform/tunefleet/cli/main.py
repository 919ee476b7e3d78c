"""``tunefleet``: the group of commands, loaded one at a time, and the one place for errors.

Decides how errors, interruptions and closed pipes end a command. ``--help`` imports click
and nothing else, so that it answers at once. A command's own file is imported when it is
called.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
from collections.abc import Sequence

import click

from tunefleet.api.errors import Problem, SpecError, TunefleetError

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("tunefleet.cli.init:init", "Look at a data file and write a job file for it."),
    "check": ("tunefleet.cli.check:check", "Look for mistakes before anything is spent."),
    "plan": ("tunefleet.cli.plan:plan", "Show what would be run, how big, how long, how dear."),
    "run": ("tunefleet.cli.run:run", "Train a job, or go on with it."),
    "predict": ("tunefleet.cli.predict:predict", "Answer texts with a tuned model."),
    "serve": ("tunefleet.cli.serve:serve", "Serve a tuned model over HTTP."),
    "export": ("tunefleet.cli.export:export", "Make a plain folder, ONNX or OCI of a tuned model."),
    "runs": ("tunefleet.cli.runs:runs", "List, show and compare runs."),
    "cost": ("tunefleet.cli.cost:cost", "Show where a run's time and money went."),
    "submit": ("tunefleet.cli.submit:submit", "Hand a job to a cluster; uploads local data."),
    "status": ("tunefleet.cli.status:status", "Where the jobs of a cluster stand, or one of them."),
    "logs": ("tunefleet.cli.logs:logs", "What a job's pods write."),
    "events": ("tunefleet.cli.logs:events", "What happened to a job."),
    "cancel": ("tunefleet.cli.change:cancel", "Save a job of a cluster and stop it for good."),
    "suspend": ("tunefleet.cli.change:suspend", "Save a job of a cluster and let it wait."),
    "resume": ("tunefleet.cli.change:resume", "Go on with a suspended job."),
    "delete": ("tunefleet.cli.change:delete", "Take a job away; its runs stay in storage."),
    "dashboard": ("tunefleet.cli.dashboard:dashboard", "Open Ray's dashboard of a running job."),
    "doctor": ("tunefleet.cli.doctor:doctor", "What this machine has, and what is missing."),
}
"""Command → where it is, and the line about it in the list of commands."""

UNLISTED: dict[str, str] = {"pod": "tunefleet.cli.pod:pod"}
"""Commands for machines: what the controller's pods run."""

INTERRUPTED = 130
BROKEN_PIPE = 141

_USER_ERRNOS = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)


class LazyGroup(click.Group):
    """Commands by name; listing them imports none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of a job's life."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's file now."""
        place = UNLISTED.get(cmd_name) or COMMANDS.get(cmd_name, ("", ""))[0]
        if not place:
            return None
        module, _, name = place.partition(":")
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it, with the nearest command for an unknown one."""
        known = {**COMMANDS, **UNLISTED}
        if args and args[0] not in known and not args[0].startswith("-"):
            from tunefleet.api.suggest import did_you_mean

            hint = did_you_mean(args[0], COMMANDS) or f"there are {', '.join(COMMANDS)}"
            ctx.fail(f"no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in COMMANDS.items()])


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from tunefleet import __version__

        click.echo(f"tunefleet {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  tunefleet init reviews.csv      writes job.yaml
  tunefleet check job.yaml        before anything is spent
  tunefleet run job.yaml          trains; run it again to go on
  tunefleet serve job.yaml        answers over HTTP
  tunefleet submit job.yaml       the same job, on a cluster

\b
Exit codes: 0 done, 1 the run failed, 2 something to mend first, 3 stopped by its budget,
130/143 interrupted.
""",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version.",
)
@click.pass_context
def tunefleet(ctx: click.Context) -> None:
    """Fine-tune any Hugging Face model from one file, and know what it costs."""
    if os.environ.get("NO_COLOR"):
        ctx.color = False


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(run_command(given))


def run_command(arguments: Sequence[str]) -> int:
    """Run one command; returns the exit code. Errors become messages here, and only here."""
    as_json = "--json" in arguments
    try:
        return _flushed(_invoke(arguments))
    except TunefleetError as error:
        _tell(error, as_json)
        return error.exit_code
    except click.ClickException as error:
        if as_json:
            _tell(SpecError(error.format_message()), as_json)
        else:
            error.show()
        return SpecError.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; nothing is left to say, not at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        if error.errno not in _USER_ERRNOS or error.filename is None:
            raise
        _tell(SpecError(f"{error.filename}: {error.strerror}"), as_json)
        return SpecError.exit_code


def _invoke(arguments: Sequence[str]) -> int:
    """The exit code of a command that ends by returning or by exiting."""
    stdout = sys.stdout
    try:
        code = tunefleet.main(list(arguments), prog_name="tunefleet", standalone_mode=False)
    except SystemExit as ending:
        # For a closed pipe click exits with 1, which here means a failed run, and silences
        # the stream by putting another in its place.
        code = ending.code if sys.stdout is stdout else BROKEN_PIPE
    return code if isinstance(code, int) else 0


def _flushed(code: int) -> int:
    # Python would flush at exit, where a closed pipe could only be complained about.
    sys.stdout.flush()
    return code


def _tell(error: TunefleetError, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps({"error": error_values(error)}))
        return
    colour = _has_colours()
    first, _, rest = _printable(str(error)).partition("\n")
    click.echo(click.style("Error: ", fg="red", bold=True) + first, err=True, color=colour)
    for line in rest.splitlines():
        is_remedy = line.lstrip().startswith("→")
        click.echo(click.style(line, fg="green") if is_remedy else line, err=True, color=colour)


def _has_colours() -> bool:
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stderr.isatty()


def _printable(text: str) -> str:
    encoding = sys.stderr.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def error_values(error: TunefleetError) -> dict[str, object]:
    """An error as JSON values: what a script gets on standard output with ``--json``."""
    return {
        "type": type(error).__name__,
        "exitCode": error.exit_code,
        "message": error.message,
        "remedy": error.remedy,
        "problems": [_problem_values(problem) for problem in error.problems],
    }


def _problem_values(problem: Problem) -> dict[str, object]:
    return {
        "message": problem.message,
        "field": problem.where,
        "remedy": problem.remedy,
        "file": problem.file,
        "line": problem.line,
    }


if __name__ == "__main__":
    main()
