"""Files at addresses, through fsspec. Each mistake of an address is one line."""

from __future__ import annotations

import io
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cottonpalm.cli.problems import Code, Problem, extra, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

READ_ONLY: Final = ("http", "https", "data", "github", "git")
EXTRA: Final = "'cottonpalm[remote]'"
SERVED_BY: Final = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "sftp": "paramiko",
    "hf": "huggingface_hub",
}
CHUNK: Final = 1 << 20


class RemoteFile(io.RawIOBase):
    """A file at an address, read from its beginning; each failure on the way is one line.

    Raises:
        Problem: it cannot be reached or read.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._file: Any = None  # closed also where it could not be opened
        with _told("read", url):
            system, path = _system(url)
            self._file = system.open(path, "rb")
        self.size: int | None = getattr(self._file, "size", None)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Whether its server can give parts of it."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in it."""
        with _told("read", self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Where we are."""
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as something comes; 0 is the end."""
        with _told("read", self._url):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Let go of the connection."""
        if self._file is not None:
            self._file.close()
        super().close()


def size_of(url: str) -> int | None:
    """How large the file at an address is; None: there is none, or its server does not say.

    Raises:
        Problem: the address cannot be reached.
    """
    with _told("look at", url):
        system, path = _system(url)
        try:
            size = system.info(path)["size"]
        except FileNotFoundError:
            return None
        return None if size is None else int(size)


def check_writable(url: str) -> None:
    """Refuse at once what can only be read.

    Raises:
        Problem: nothing can be written at this kind of address.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in READ_ONLY:
        raise Problem(f"-o {shown(url)}: {scheme}:// can be read, but not written to; name a file")


def upload(file: BinaryIO, url: str) -> None:
    """Put what a file holds at an address, in one go.

    Raises:
        Problem: it could not be written, with exit code 4 (the results are safe in the store).
    """
    with _told("write", url, Code.STOPPED):
        system, path = _system(url)
        file.seek(0)
        with system.open(path, "wb") as there:
            shutil.copyfileobj(file, there, CHUNK)


def _system(url: str) -> tuple[Any, str]:
    fsspec = extra("fsspec", "remote", "a file at an address")
    system, path = fsspec.core.url_to_fs(url)
    return system, path


@contextmanager
def _told(action: str, url: str, code: Code = Code.USAGE) -> Iterator[None]:
    try:
        yield
    except Problem:
        raise
    except FileNotFoundError as error:
        raise Problem(f"cannot {action} {shown(url)}: {_why_not_found(error, url)}", code) from None
    except ImportError:
        scheme = url.partition("://")[0].lower()
        raise Problem(f"{scheme}:// needs a package: pip install {SERVED_BY.get(scheme, EXTRA)}") from None
    except Exception as error:  # each file system has errors of its own
        raise Problem(f"cannot {action} {shown(url)}: {reason_of(error, url)}", code) from error


def reason_of(error: Exception, url: str) -> str:
    """An error of a file system in one line, without what the address holds of secrets."""
    status = getattr(error, "status", None)  # of aiohttp
    text = f"{status} {getattr(error, 'message', '')}" if status else str(error)
    text = text.replace(url, shown(url)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _why_not_found(error: FileNotFoundError, url: str) -> str:
    """A server that cannot be reached, or refuses, is reported as if the file were missing."""
    cause = error.__cause__
    refused = getattr(cause, "status", 404) != 404
    unreached = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return (
        reason_of(cause, url)
        if isinstance(cause, Exception) and (refused or unreached)
        else "there is no such file"
    )
