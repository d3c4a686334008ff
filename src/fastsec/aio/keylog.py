"""Session keys into a file, for ``fastsec inspect --keys``. A development aid that undoes all protection."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import Final

from fastsec.errors import ConfigError

HEADER: Final = "# fastsec key log, version 1. SECRET: whoever has this file reads and forges the associations in it.\n"

_log = logging.getLogger("fastsec.keylog")


class KeyLogFile:
    """A value for ``Config.key_log``: appends each line to a file that only its owner may read, and says so loudly.

    Arguments:
        path: made with mode 0600; an existing one must be a regular file of this user that nobody else may open.
    Errors:
        ConfigError: the file cannot be made, or others may read it.
    """

    __slots__ = ("_file", "_full", "path")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._full = False
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            self._file = os.open(self.path, flags, 0o600)
        except OSError as error:
            raise ConfigError(f"key log {self.path}: {error.strerror}") from None
        found = os.fstat(self._file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            os.close(self._file)
            raise ConfigError(f"key log {self.path}: not a file that its owner alone may open; remove it or chmod 600")
        if not found.st_size:
            os.write(self._file, HEADER.encode())
        _log.critical(
            "INSECURE: session keys are written to %s; whoever reads that file reads and forges all traffic of this "
            "process. For development only",
            self.path,
        )

    def __call__(self, line: str) -> None:
        """Append one line. A file that cannot be written is told once; associations go on."""
        try:
            os.write(self._file, f"{line}\n".encode("ascii"))
        except OSError as error:
            if not self._full:
                self._full = True
                _log.error("key log %s cannot be written: %s", self.path, error.strerror)

    def __repr__(self) -> str:
        return f"KeyLogFile({str(self.path)!r})"

    def close(self) -> None:
        """Close the file; lines that come later are lost."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
