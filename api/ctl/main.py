"""`ctl`: one thin file a verb, loaded when it is used.

A command line becomes a `Session` (context, namespace, the streams) and one call of a verb. Verbs
raise; here alone is decided what that prints and which exit code it has (`api.ctl.errors`).
Heavy libraries are imported where a verb needs them, so that help and completion come at once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

import click

from api.ctl.errors import MEANINGS, CtlError, Ended, ExitCode, Invalid
from api.ctl.output import Output
from api.ctl.session import Session, global_options

_SECTIONS: dict[str, tuple[str, ...]] = {
    "Declare": ("apply", "diff", "delete", "create", "edit", "label", "annotate"),
    "See": ("status", "get", "describe", "events", "logs"),
    "Set up": ("init", "join", "token", "ca", "keys", "lock", "unlock", "user"),
    "Keep in git": ("seal",),
    "Act": ("scale", "restart", "rollout", "secret", "job", "exec", "wait", "node"),
    "Know": ("explain", "context", "completion", "version"),
}
_SHARED = {"label": "label", "annotate": "label"}  # verbs of one file, by their own names
_VERBS = tuple(verb for verbs in _SECTIONS.values() for verb in verbs)
_BROKEN_PIPE = 141  # 128 + SIGPIPE, as of any program in a pipeline

_EXIT_CODES = "\b\nExit codes:\n" + "\n".join(
    f"  {code.value:>3}  {meaning}" for code, meaning in MEANINGS.items()
)
_ENVIRONMENT = "\b\nEnvironment:\n" + "\n".join(
    (
        "  SKEP_CONFIG   the contexts' file (default ~/.config/skep/config.yaml)",
        "  SKEP_CONTEXT  the context to use, where --context is not given",
        "  NO_COLOR      no colours",
        "  SKEP_ALLOW_PLAINTEXT=1  as `ctl apply --allow-plaintext`",
        "  EDITOR        for `ctl edit`",
        "  SKEP_DEBUG=1  tracebacks, for a report of a bug in ctl",
    )
)


class Verbs(click.Group):
    """The verbs by name, their files imported when asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"api.ctl.{_SHARED.get(cmd_name, cmd_name)}")
        command = getattr(module, cmd_name if cmd_name in _SHARED else "command")
        if not isinstance(command, click.Command):
            raise TypeError(f"{module.__name__} has no command {cmd_name}")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # of which click would make exit code 1
            _drop_stdout()
            raise Ended(_BROKEN_PIPE) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _VERBS and not args[0].startswith("-"):
            import difflib

            close = difflib.get_close_matches(args[0], _VERBS, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; see `ctl --help`"
            raise click.UsageError(f"there is no verb {args[0]!r}{hint}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for section, verbs in _SECTIONS.items():
            rows = []
            for verb in verbs:
                command = self.get_command(ctx, verb)
                rows.append((verb, command.get_short_help_str(limit=90) if command else ""))
            with formatter.section(section):
                formatter.write_dl(rows)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=f"{_EXIT_CODES}\n\n{_ENVIRONMENT}",
    invoke_without_command=True,
)
@click.option("--version", is_flag=True, help="As `ctl version --client`.")
@global_options
@click.pass_context
def cli(ctx: click.Context, version: bool) -> None:
    """Declare what should run, and see what does.

    Every verb has its own --help, with examples. The global options may stand before or after
    the verb.
    """
    if version:
        from api.ctl.version import command as shown

        ctx.invoke(shown, client_only=True, output=None)
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ctl`; returns its exit code. `ctl` itself exits with it."""
    code = _run(arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_stdout()
        return _BROKEN_PIPE
    return code


def _run(arguments: Sequence[str] | None) -> int:
    output = Output()
    try:
        result: Any = cli.main(
            args=None if arguments is None else list(arguments),
            prog_name="ctl",
            standalone_mode=False,
            obj=Session(output),
        )
        # Without standalone mode click returns the code of --help and ctx.exit().
        return result if isinstance(result, int) else ExitCode.OK
    except Ended as ended:
        return ended.exit_code
    except CtlError as error:
        return _failed(output, error)
    except click.exceptions.NoArgsIsHelpError as error:
        output.note(error.format_message())
        return ExitCode.USAGE
    except click.UsageError as error:
        return _misused(output, error)
    except click.ClickException as error:
        output.error(error.format_message())
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        output.note("")
        return ExitCode.INTERRUPTED
    except Exception as error:
        return _bug(output, error)


def _failed(output: Output, error: CtlError) -> int:
    if isinstance(error, Invalid):
        for line in error.lines:
            output.note(line)
    output.error(error.message, error.hint)
    _debug(error)
    return error.code


def _misused(output: Output, error: click.UsageError) -> int:
    output.error(error.format_message())
    if error.ctx is not None:
        output.note(f"  {error.ctx.get_usage()}")
        output.note(f"  `{error.ctx.command_path} --help` says more")
    return ExitCode.USAGE


def _bug(output: Output, error: Exception) -> int:
    _debug(error)
    output.error(
        f"ctl failed in a way it should not: {type(error).__name__}: {error}",
        "run it again with SKEP_DEBUG=1 and report what it prints",
    )
    return ExitCode.ERROR


def _debug(error: Exception) -> None:
    if os.environ.get("SKEP_DEBUG"):
        import traceback

        traceback.print_exception(error)


def _drop_stdout() -> None:
    """Let nothing more be written to a pipe that nobody reads, also not at exit."""
    with contextlib.suppress(OSError, ValueError):
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, sys.stdout.fileno())
        os.close(sink)


if __name__ == "__main__":
    sys.exit(main())
