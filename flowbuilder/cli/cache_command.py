"""``flowbuilder cache``: what is kept, what it was good for, and forgetting it."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from flowbuilder.cli.exit_codes import OK
from flowbuilder.errors import FlowBuilderError

if TYPE_CHECKING:
    from flowbuilder.cache.entry import Entry
    from flowbuilder.cache.task_cache import TaskCache

__all__ = ["add_arguments"]

_HEADS = ("KEY", "TASK", "KEPT", "USED", "HITS", "COST", "SIZE")
_KEY_CHARS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("ls", help="list kept outputs, the newest first")
    listing.add_argument("task", nargs="?", help="only of this workflow, or workflow/task")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="default: 50")
    listing.set_defaults(handler=_list)
    remove = actions.add_parser("rm", help="forget kept outputs; tasks then run again")
    remove.add_argument(
        "wanted", nargs="*", metavar="KEY|TASK", help="keys, workflows, workflow/task"
    )
    remove.add_argument("--all", action="store_true", help="everything")
    remove.add_argument("--older-than", metavar="DURATION", help="only what was kept before: 7d")
    remove.set_defaults(handler=_remove)
    stats = actions.add_parser("stats", help="count entries, hits, misses and time spared")
    stats.set_defaults(handler=_stats)
    for action in (listing, remove, stats):
        action.add_argument("--json", action="store_true", help="print one JSON document")
        action.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")


def _open(arguments: argparse.Namespace) -> TaskCache | None:
    """Give the cache; None if nothing was ever kept, so that looking leaves no trace."""
    from flowbuilder.api.container import container_for
    from flowbuilder.cli.recorded import find_store

    if not (find_store(arguments) / "cache").exists():
        return None
    data_dir = None if arguments.data_dir is None else Path(arguments.data_dir)
    return container_for(None, data_dir).open_cache()


def _list(arguments: argparse.Namespace) -> int:
    cache = _open(arguments)
    entries = cache.entries() if cache is not None else []
    if arguments.task:
        entries = [entry for entry in entries if _is_of(entry, arguments.task)]
    shown = entries[: max(0, arguments.limit)]
    if arguments.json:
        from flowbuilder.cli.documents import print_json

        print_json([_document(entry) for entry in shown])
        return OK
    if not entries:
        print("nothing is kept")
        return OK
    _print_table([_HEADS, *map(_row, shown)])
    if len(shown) < len(entries):
        print(f"... and {len(entries) - len(shown):,} more (--limit shows them)")
    return OK


def _remove(arguments: argparse.Namespace) -> int:
    from flowbuilder.durations import parse_duration

    if not (arguments.wanted or arguments.all or arguments.older_than):
        raise FlowBuilderError(
            "expected what to forget", hint="name keys or tasks, or write --all or --older-than 7d"
        )
    try:
        age_s = parse_duration(arguments.older_than or 0)
    except ValueError as error:
        raise FlowBuilderError(str(error)) from error
    before_ns = time.time_ns() - int(age_s * 1e9)
    cache = _open(arguments)
    removed = 0
    if cache is not None:
        _check_names(cache, arguments.wanted)
        if arguments.all and not arguments.wanted and not arguments.older_than:
            removed = cache.clear()
        else:
            removed = len(
                cache.remove(
                    lambda entry: (
                        entry.created_ns <= before_ns
                        and (
                            not arguments.wanted or any(_is_of(entry, w) for w in arguments.wanted)
                        )
                    )
                )
            )
    elif arguments.wanted:
        raise FlowBuilderError(
            f"nothing kept is called {arguments.wanted[0]!r}: the cache is empty"
        )
    if arguments.json:
        from flowbuilder.cli.documents import print_json

        print_json({"removed": removed})
    else:
        print(f"forgot {removed} output{'s' * (removed != 1)}")
    return OK


def _check_names(cache: TaskCache, wanted: list[str]) -> None:
    entries = cache.entries()
    for name in wanted:
        if not any(_is_of(entry, name) for entry in entries):
            import difflib

            near = difflib.get_close_matches(name, {entry.task for entry in entries}, 1)
            raise FlowBuilderError(
                f"expected the key or the task of a kept output, found {name!r}",
                hint=f"did you mean {near[0]!r}?" if near else "'flowbuilder cache ls' lists them",
            )


def _is_of(entry: Entry, wanted: str) -> bool:
    if (entry.task + "/").startswith(wanted + "/"):
        return True
    return len(wanted) >= _KEY_CHARS and entry.key.startswith(wanted)


def _stats(arguments: argparse.Namespace) -> int:
    from flowbuilder.cache.entry import CacheStats
    from flowbuilder.durations import format_duration

    cache = _open(arguments)
    stats = cache.stats() if cache is not None else CacheStats()
    if arguments.json:
        import msgspec

        from flowbuilder.cli.documents import print_json

        print_json({**msgspec.structs.asdict(stats), "hit_rate": stats.hit_rate})
        return OK
    asked = stats.hits + stats.misses
    print(f"kept     {stats.entries:,} outputs, {_size(stats.size_bytes)}", end="")
    print(f" of at most {_size(stats.max_bytes)}" if stats.max_bytes else "")
    print(f"look-ups {asked:,}: {stats.hits:,} hits ({stats.hit_rate:.0%})")
    print(f"spared   {format_duration(stats.saved_s)}")
    print(
        f"stored   {stats.stored:,}; expired {stats.expired:,}; evicted {stats.evicted:,};"
        f" damaged {stats.damaged:,}"
    )
    if stats.path:
        print(f"in       {stats.path}")
    return OK


def _document(entry: Entry) -> dict[str, object]:
    from flowbuilder.api.task_run import isoformat_ns

    return {
        "key": entry.key,
        "task": entry.task,
        "kept_at": isoformat_ns(entry.created_ns),
        "used_at": isoformat_ns(entry.used_ns),
        "hits": entry.hits,
        "cost_s": entry.cost_ns / 1e9,
        "size_bytes": entry.size_bytes,
        "ttl_s": entry.ttl_s,
    }


def _row(entry: Entry) -> tuple[str, ...]:
    from flowbuilder.api.display_text import one_line
    from flowbuilder.durations import format_duration

    now = time.time_ns()
    return (
        entry.key[:_KEY_CHARS],
        one_line(entry.task),
        f"{format_duration(max(0, now - entry.created_ns) / 1e9)} ago",
        f"{format_duration(max(0, now - entry.used_ns) / 1e9)} ago",
        f"{entry.hits:,}",
        format_duration(entry.cost_ns / 1e9),
        _size(entry.size_bytes),
    )


def _print_table(rows: list[tuple[str, ...]]) -> None:
    from flowbuilder.api.display_text import cell_width, fit_cells

    widths = [
        min(60, max(cell_width(row[column]) for row in rows)) for column in range(len(_HEADS))
    ]
    for row in rows:
        cells = (fit_cells(cell, width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _size(size_bytes: int) -> str:
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
