"""Files at addresses, through fsspec. Each error of an address becomes a one-line message."""

from __future__ import annotations

import io
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from cottonpalm.cli.problems import Problem, extra
from cottonpalm.shell import Code
from cottonpalm.urls import shown

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
    """A file at an address, read from its beginning. Each failure becomes a one-line message.

    Raises:
        Problem: it cannot be reached or read.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._file: Any = None  # set first, since `close` runs even if opening fails
        with _told("read", url):
            system, path = _system(url)
            self._file = system.open(path, "rb")
        self.size: int | None = getattr(self._file, "size", None)

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Whether the server can send parts of the file."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position in the file."""
        with _told("read", self._url):
            return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        """Return the present position."""
        return int(self._file.tell())

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer as far as data comes; 0 means the end."""
        with _told("read", self._url):
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the connection."""
        if self._file is not None:
            self._file.close()
        super().close()


def size_of(url: str) -> int | None:
    """Return the size of the file at an address; None: there is no file, or the server does not tell.

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
    """Refuse at once an address that can only be read.

    Raises:
        Problem: one cannot write to this kind of address.
    """
    scheme = url.partition("://")[0].lower()
    if scheme in READ_ONLY:
        raise Problem(f"-o {shown(url)}: {scheme}:// can be read, but not written to; name a file")


def upload(file: BinaryIO, url: str) -> None:
    """Copy a file's content to an address, in one go.

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
    except Exception as error:  # each file system raises its own kinds of error
        raise Problem(f"cannot {action} {shown(url)}: {reason_of(error, url)}", code) from error


def reason_of(error: Exception, url: str) -> str:
    """Describe a file system's error in one line, without the secrets in the address."""
    status = getattr(error, "status", None)  # aiohttp's errors have it
    text = f"{status} {getattr(error, 'message', '')}" if status else str(error)
    text = text.replace(url, shown(url)).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _why_not_found(error: FileNotFoundError, url: str) -> str:
    """Find the real reason: fsspec also reports a missing file if the server cannot be reached, or refuses."""
    cause = error.__cause__
    refused = getattr(cause, "status", 404) != 404
    unreached = isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError)
    return (
        reason_of(cause, url)
        if isinstance(cause, Exception) and (refused or unreached)
        else "there is no such file"
    )
