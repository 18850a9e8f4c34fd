"""The end of a worker whose rows Spark has stopped to read: after `show`, `head` or `limit`.

Spark closes the connection then. pyspark's worker finds out when it writes, tries to write what happened, and
dies of that with the traceback of a BrokenPipeError on standard error, which looks like a failure and is none.
A filter in a pipe ends when nobody reads it any more; so does a worker here.
"""

from __future__ import annotations

import os

from pyspark import TaskContext


def end_if_unread(closing: GeneratorExit) -> None:
    """Ends this process if it is a worker, and its output is closed because its connection to Spark is.

    Spark has given the worker up at this point, and starts another one for the next task.
    """
    # pyspark closes a generator while it handles what went wrong when it wrote.
    if TaskContext.get() is not None and isinstance(closing.__context__, ConnectionError):
        os._exit(0)
