"""One prefix of an object store, with bounded requests and errors in the reader's words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from flowbuilder.errors import StorageError
from flowbuilder.store.ports import StoredFile

if TYPE_CHECKING:
    from obstore.store import ObjectStore

__all__ = ["ObjectClient", "ObjectLimits"]

_PART_BYTES: Final = 8 * 2**20
_MAX_REASON_CHARS: Final = 300


class ObjectLimits(NamedTuple):
    """How long to try."""

    connect_timeout_s: float = 5.0
    request_timeout_s: float = 60.0
    """Of one request, which moves at most 8 MiB."""
    retry_timeout_s: float = 120.0
    """From the first try of a request to its last."""
    max_retries: int = 6


class ObjectClient:
    """Reads, writes, lists and deletes objects below one URL. Thread-safe.

    Credentials come from the environment and the machine's identity, as the provider's own tools
    find them; a URL carries none.

    Parameters
    ----------
    url : str
        Such as ``s3://bucket/prefix``.
    limits : ObjectLimits
        How long to try.

    Raises
    ------
    StorageError
        If the URL names no store this machine can reach, or ``obstore`` is not installed.
    """

    def __init__(self, url: str, limits: ObjectLimits = ObjectLimits()) -> None:  # noqa: B008
        self.url = url.rstrip("/")
        try:
            import obstore
            from obstore.store import from_url
        except ImportError as error:
            raise StorageError(
                f"outputs in {self.url} need the package obstore, which is not installed",
                hint="pip install 'flowbuilder[objects]'",
            ) from error
        self._calls = obstore
        with self._errors("open"):
            self._store: ObjectStore = from_url(
                url,
                client_options={
                    "allow_http": os.environ.get("AWS_ALLOW_HTTP", "").lower() == "true",
                    "connect_timeout": timedelta(seconds=limits.connect_timeout_s),
                    "timeout": timedelta(seconds=limits.request_timeout_s),
                },
                retry_config={
                    "max_retries": limits.max_retries,
                    "retry_timeout": timedelta(seconds=limits.retry_timeout_s),
                },
            )

    def put_file(self, key: str, path: Path) -> None:
        """Make an object appear whole, from a file; large ones go in parts.

        Raises
        ------
        StorageError
            If it could not be stored; nothing is visible then.
        """
        with self._errors("store an output in"):
            self._calls.put(self._store, key, path, chunk_size=_PART_BYTES)

    def parts(self, key: str, size_bytes: int) -> Iterator[bytes]:
        """Iterate over the first ``size_bytes`` of an object, a request for each part.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        StorageError
            If it cannot be read, or is shorter.
        """
        for start in range(0, size_bytes, _PART_BYTES):
            end = min(start + _PART_BYTES, size_bytes)
            with self._errors("read an output from"):
                part = self._calls.get_range(self._store, key, start=start, end=end)
                yield part.to_bytes()

    def size_of(self, key: str) -> int:
        """Give the size of an object.

        Raises
        ------
        FileNotFoundError
            If there is no such object.
        StorageError
            If the store does not answer.
        """
        with self._errors("look at an output in"):
            return self._calls.head(self._store, key)["size"]

    def objects(self, prefix: str) -> Iterator[StoredFile]:
        """Iterate over the objects below a prefix, which ends at a slash.

        Raises
        ------
        StorageError
            If the store does not answer.
        """
        with self._errors("list the outputs in"):
            for page in self._calls.list(self._store, prefix):
                for found in page:
                    modified_s = found["last_modified"].timestamp()
                    yield StoredFile(found["path"], found["size"], modified_s)

    def delete(self, keys: list[str]) -> None:
        """Delete objects; those that are gone already do not matter.

        Raises
        ------
        StorageError
            If one could not be deleted.
        """
        if keys:
            with self._errors("delete outputs in"):
                self._calls.delete(self._store, keys)

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if "NoSuchBucket" not in str(error):
                raise
            raise StorageError(
                f"could not {action} {self.url}: there is no such bucket",
                hint="create it, or correct the setting 'artifacts'",
            ) from None
        except (BaseError, OSError, ValueError) as error:
            raise StorageError(
                f"could not {action} {self.url}: {_reason(error)}", hint=_advice(error)
            ) from error


def _reason(error: Exception) -> str:
    # Behind the first line comes the debug form of the whole request.
    lines = str(error).strip().splitlines()
    return lines[0][:_MAX_REASON_CHARS] if lines else type(error).__name__


def _advice(error: Exception) -> str:
    text = str(error)
    if isinstance(error, PermissionError) or "Unauthenticated" in type(error).__name__:
        return "check the credentials in the environment and what they allow"
    if "BadScheme" in text:
        return "set AWS_ALLOW_HTTP=true if an endpoint without TLS is meant"
    return "check the network, the credentials in the environment and the endpoint"
