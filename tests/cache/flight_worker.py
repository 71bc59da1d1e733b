"""A process that wants one key: prints what it gets, holds it until it is told, stores."""

from __future__ import annotations

import sys
from pathlib import Path

from flowbuilder.cache.task_cache import CacheRequest, Hit, TaskCache
from tests.cache.fingerprints import fingerprint


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(store: str, name: str) -> None:
    cache = TaskCache(Path(store))
    request = CacheRequest(task="work/task", fingerprint=fingerprint(arguments={"name": name}))
    say("asking")
    found = cache.wait(request, lambda: None)
    if isinstance(found, Hit):
        say(f"hit {found.value}")
    else:
        say("computing")
        value = sys.stdin.readline().strip()
        say(f"stored{found.store(value, 1_000_000)}")
        found.release()
    cache.close()


main(*sys.argv[1:])
