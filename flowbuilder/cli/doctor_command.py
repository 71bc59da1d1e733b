"""``flowbuilder doctor``: what is installed, which places are used, what is wrong and what to do
about it.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from flowbuilder._version import __version__
from flowbuilder.cli.documents import print_json
from flowbuilder.cli.exit_codes import FAILED, OK
from flowbuilder.errors import FlowBuilderError

__all__ = ["add_arguments", "execute"]

_CORE = (
    "apsw",
    "msgspec",
    "pyyaml",
    "jsonschema-rs",
    "httpx",
    "rich",
    "cloudpickle",
    "common-expression-language",
)
_OPTIONAL = ("pyarrow", "polars", "duckdb", "pandas", "numpy", "numba", "dask", "jupyterlab")

Check = tuple[str, str, str]
"""name, ``ok`` | ``info`` | ``problem``, text."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    data_dir = None if arguments.data_dir is None else Path(arguments.data_dir)
    checks: list[Check] = [
        ("flowbuilder", "ok", __version__),
        ("python", "ok", sys.version.split()[0]),
    ]
    checks.append(("platform", "ok", platform.platform()))
    checks += _distributions()
    for name, check in _CHECKS.items():
        try:
            checks.append((name, *check(data_dir)))
        except FlowBuilderError as error:
            checks.append((name, "problem", str(error)))
    if arguments.json:
        print_json(
            [{"name": name, "status": status, "text": text} for name, status, text in checks]
        )
    else:
        width = max(len(name) for name, _, _ in checks)
        marks = {"ok": " ", "info": "-", "problem": "!"}
        for name, status, text in checks:
            print(f"{marks[status]} {name:<{width}}  {text}")
    return FAILED if any(status == "problem" for _, status, _ in checks) else OK


def _distributions() -> list[Check]:
    found: list[Check] = []
    for name in (*_CORE, *_OPTIONAL):
        try:
            found.append((name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            is_core = name in _CORE
            found.append(
                (
                    name,
                    "problem" if is_core else "info",
                    "missing" if is_core else "not installed (optional)",
                )
            )
    return found


def _machine(_data_dir: Path | None) -> tuple[str, str]:
    from flowbuilder.runtime.machine import cpu_budget, memory_limit_bytes

    memory = memory_limit_bytes()
    shown = f", {memory / 2**30:.1f} GiB of memory" if memory else ""
    return "ok", f"{cpu_budget()} usable cores{shown}"


def _settings(data_dir: Path | None) -> tuple[str, str]:
    from flowbuilder.config import load_settings

    settings = load_settings(Path.cwd(), data_dir=data_dir)
    given = {name: source for name, source in settings.sources.items() if source != "default"}
    return "ok", ", ".join(
        f"{name} from {source}" for name, source in given.items()
    ) or "all defaults"


def _home(_data_dir: Path | None) -> tuple[str, str]:
    from flowbuilder.config import flowbuilder_home

    return "ok", str(flowbuilder_home())


def _store(data_dir: Path | None) -> tuple[str, str]:
    from flowbuilder.config import find_data_dir
    from flowbuilder.store.filesystems import network_filesystem

    place = find_data_dir(None, data_dir)
    if not place.exists():
        return "info", f"{place} (made by the first run)"
    kind = network_filesystem(place)
    if kind:
        return (
            "problem",
            f"{place} is on a network file system ({kind}): slow; see --data-dir",
        )
    size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
    return "ok", f"{place} ({size / 2**20:.1f} MiB)"


def _journal(data_dir: Path | None) -> tuple[str, str]:
    import apsw

    from flowbuilder.config import find_data_dir, load_settings
    from flowbuilder.store.connection import check_library

    check_library()
    server = load_settings(Path.cwd(), data_dir=data_dir).journal
    kind = f"SQLite {apsw.sqlite_lib_version()}" if server is None else str(server)
    if server is None and not find_data_dir(None, data_dir).exists():
        return "ok", kind
    from flowbuilder.api.container import container_for

    newest = container_for(None, data_dir).journal.list_runs(limit=1)
    return "ok", f"{kind}, " + ("runs are recorded" if newest else "no runs yet")


def _leftovers(data_dir: Path | None) -> tuple[str, str]:
    from flowbuilder.config import find_data_dir

    if not find_data_dir(None, data_dir).exists():
        return "ok", "none"
    from flowbuilder.api.container import container_for

    container = container_for(None, data_dir)
    found = container.swept + container.sweep()
    if not found.count:
        return "ok", "none"
    return "ok", f"removed {found.count} leftovers of killed processes ({found.size_bytes:,} bytes)"


def _memory(data_dir: Path | None) -> tuple[str, str]:
    from flowbuilder.api.container import memory_budget
    from flowbuilder.config import load_settings

    limit = memory_budget(load_settings(Path.cwd(), data_dir=data_dir))
    if not limit:
        return "info", "no limit: the system does not say how much there is; set memory_limit"
    half = limit / 2 / 2**30
    return "ok", f"{half:.1f} GiB for outputs, as much for queries; then files (memory_limit)"


def _task_types(_data_dir: Path | None) -> tuple[str, str]:
    from flowbuilder.config import find_data_dir
    from flowbuilder.tasks import default_registry

    registry = default_registry(find_data_dir(None).parent)
    described = [registry.describe(name) for name in registry.names()]
    broken = [f"{item.name}: {item.error}" for item in described if item.error]
    broken += registry.problems()
    return (
        ("problem", "; ".join(broken))
        if broken
        else ("ok", ", ".join(item.name for item in described))
    )


_CHECKS: dict[str, Callable[[Path | None], tuple[str, str]]] = {
    "machine": _machine,
    "settings": _settings,
    "home": _home,
    "store": _store,
    "journal": _journal,
    "leftovers": _leftovers,
    "memory": _memory,
    "task types": _task_types,
}
