"""Files that are either whole or absent."""

import contextlib
import os
import time
from pathlib import Path

# Seconds. Writing one file takes far less, so what is older was left by a run that was killed.
_ABANDONED = 600.0


def write_atomically(path: Path, data: bytes) -> None:
    """Writes `data` to `path`, so that at no time a reader finds half of it there.

    It is written beside the file and then renamed, in the same folder, because a rename is
    atomic within one file system only. When the writing fails, what was at `path` stays.

    Args:
        path: The file; it is replaced when it exists. Its folder has to exist.
        data: What it will hold.
    """
    _remove_abandoned(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            # Some file systems would otherwise rename first and lose the data in a crash.
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _remove_abandoned(path: Path) -> None:
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - leftover.stat().st_mtime > _ABANDONED:
                leftover.unlink()
