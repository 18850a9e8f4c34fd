"""Swapping two folders in one step, where the system can."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
# NFS and FUSE answer EINVAL or ENOTSUP, kernels before 3.15 ENOSYS.
_NOT_SUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}


def exchange(left: Path, right: Path) -> bool:
    """True once the names `left` and `right` have swapped what they stand for, in one step.

    A reader sees one state or the other, whatever dies in between. Both must exist and lie on one
    file system. False, with nothing changed, where the system or the file system cannot do it.

    Raises:
        OSError: the file system refused for another reason.

    Source: renameat2(2), RENAME_EXCHANGE, Linux 3.15.
    """
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "renameat2"):  # glibc before 2.28
        return False
    ctypes.set_errno(0)
    names = [_AT_FDCWD, os.fsencode(left), _AT_FDCWD, os.fsencode(right)]
    if libc.renameat2(*names, _RENAME_EXCHANGE) == 0:
        return True
    code = ctypes.get_errno()
    if code in _NOT_SUPPORTED:
        return False
    raise OSError(code, os.strerror(code), str(right))
