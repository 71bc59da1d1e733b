"""Values only pickle can hold, signed: only what the user's key has signed is ever unpickled."""

from __future__ import annotations

import hmac
import io
import pickle
from collections import ChainMap
from collections.abc import AsyncIterator, Awaitable, Iterator
from functools import cache
from typing import ClassVar, Final

from flowbuilder.errors import StorageError
from flowbuilder.store.artifact_files import ByteSink, TooLargeError, UnpicklableError
from flowbuilder.store.signing import MAC_BYTES, new_mac

__all__ = ["is_consumable", "load_pickle", "write_pickle"]

_MAGIC: Final = b"flowbuilder pickle 1\n"


# cloudpickle would store their content and give back something else.
_COPIED_KINDS: Final = (io.TextIOWrapper, memoryview)


def is_consumable(value: object) -> bool:
    """Tell whether using a value uses it up, as with iterators, generators and coroutines."""
    return isinstance(value, Iterator | AsyncIterator | Awaitable)


@cache
def _pickler_class() -> type[pickle.Pickler]:
    import cloudpickle  # type: ignore[import-untyped]

    class StrictPickler(cloudpickle.Pickler):  # type: ignore[misc]
        """A cloudpickle that stores nothing it would give back as something else."""

        dispatch_table: ClassVar[ChainMap[type, object]] = ChainMap(
            dict.fromkeys(_COPIED_KINDS, _refuse), cloudpickle.Pickler.dispatch_table
        )

    return StrictPickler


def _refuse(value: object) -> str:
    raise UnpicklableError(f"a {type(value).__name__} cannot be stored and read back equal")


class _SigningSink:
    """Passes what it is given on, and signs it."""

    def __init__(self, sink: ByteSink, key: bytes) -> None:
        self._sink = sink
        self.mac = new_mac(key)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        view = memoryview(data).cast("B")
        self.mac.update(view)
        return self._sink.write(view)


def write_pickle(sink: ByteSink, key: bytes, value: object) -> None:
    """Write a value by cloudpickle (it takes lambdas and classes of notebooks), then its HMAC.

    Raises
    ------
    UnpicklableError
        If it cannot be pickled.
    TooLargeError
        If it is larger than the sink takes.
    """
    signed = _SigningSink(sink, key)
    signed.write(_MAGIC)
    try:
        _pickler_class()(signed, protocol=5).dump(value)
    except (TooLargeError, UnpicklableError, OSError):
        raise
    except Exception as error:  # any class may raise anything when asked to pickle itself
        raise UnpicklableError(f"a {type(value).__name__} cannot be pickled: {error}") from error
    sink.write(signed.mac.digest())


def load_pickle(content: bytes | memoryview, key: bytes, name: str) -> object:
    """Read a pickle whose HMAC is valid; ``name`` is what messages call it.

    Raises
    ------
    StorageError
        If it is not signed with this key; nothing was unpickled then.
    Exception
        Whatever unpickling raises, such as an import that fails.
    """
    view = memoryview(content)
    body, mac = view[:-MAC_BYTES], view[-MAC_BYTES:]
    expected = new_mac(key)
    expected.update(body)
    if bytes(body[: len(_MAGIC)]) != _MAGIC or not hmac.compare_digest(expected.digest(), mac):
        raise StorageError(
            f"the pickle {name} is not signed with this user's key and was not read",
            hint="run the task again",
        )
    return pickle.loads(body[len(_MAGIC) :])  # noqa: S301 - its signature was checked
