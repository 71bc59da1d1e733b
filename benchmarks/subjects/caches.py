"""Caches of calls, and hashes of tables: the bare ones, joblib's and ours."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["BareCalls", "FlowBuilderCache", "JoblibMemory"]


def pair(number: int) -> list[int]:
    return [number, number + 1]


class BareCalls:
    """No cache; reading a table once is what hashing it cannot beat."""

    def prepare_cached(self) -> Callable[[int], list[int]]:
        return pair

    def prepare_digest(self) -> Callable[[object], object]:
        import numpy as np

        def read(table: object) -> int:
            total = 0
            for column in table.columns:
                for chunk in column.chunks:
                    for buffer in chunk.buffers():
                        if buffer is not None:
                            whole = buffer.size // 8 * 8
                            total += int(np.frombuffer(buffer, dtype="u8", count=whole // 8).sum())
            return total

        return read


class JoblibMemory:
    """``joblib.Memory`` in a folder, and ``joblib.hash``."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="bench-joblib-")

    def prepare_cached(self) -> Callable[[int], list[int]]:
        import joblib

        cached: Callable[[int], list[int]] = joblib.Memory(self._folder, verbose=0).cache(pair)
        return cached

    def prepare_digest(self) -> Callable[[object], object]:
        import joblib

        def digest(table: object) -> object:
            return joblib.hash([column.to_numpy() for column in table.columns])

        return digest

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)


class FlowBuilderCache:
    """``what="call"`` asks the cache as a task does; ``what="run"`` runs a workflow of one task."""

    def __init__(self, what: str = "call") -> None:
        self._what = what
        self._folder = Path(tempfile.mkdtemp(prefix="bench-cache-"))

    def prepare_cached(self) -> Callable[[int], list[int]]:
        return self._run if self._what == "run" else self._call()

    def _run(self, number: int) -> list[int]:
        if not hasattr(self, "_workflow"):
            import flowbuilder as fb

            fb.configure(data_dir=self._folder)
            args = {"number": "${{ params.number }}"}
            self._workflow = fb.Workflow("bench", params={"number": {"type": "integer"}}).add(
                "pair", pair, config=args, cache=True
            )
        found: list[int] = self._workflow.run(number=number, durability="none")["pair"]
        return found

    def _call(self) -> Callable[[int], list[int]]:
        from flowbuilder.cache.fingerprinting import Declared, fingerprint_of
        from flowbuilder.cache.subject import Subject
        from flowbuilder.cache.task_cache import CacheRequest, Flight, TaskCache

        cache = TaskCache(self._folder)
        declared = Declared(task_type="python")

        def call(number: int) -> list[int]:
            subject = Subject(function=pair, arguments={"number": number})
            fingerprint = fingerprint_of(subject, declared, cache.files)
            request = CacheRequest(task="bench/pair", fingerprint=fingerprint)
            found = cache.wait(request, lambda: None)
            if not isinstance(found, Flight):
                return found.value
            value = pair(number)
            found.store(value, 1_000)
            found.release()
            return value

        return call

    def prepare_digest(self) -> Callable[[object], object]:
        from flowbuilder.cache.values import ValueHash

        return ValueHash(lambda thing: repr(thing).encode()).digest

    def close(self) -> None:
        from flowbuilder.api.container import close_containers

        close_containers()
        shutil.rmtree(self._folder, ignore_errors=True)
