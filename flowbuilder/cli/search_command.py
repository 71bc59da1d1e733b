"""``flowbuilder search``: find a text in everything recorded."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from flowbuilder.cli.exit_codes import OK
from flowbuilder.cli.recorded import open_recorded

if TYPE_CHECKING:
    from flowbuilder.history.search_result import SearchHit

__all__ = ["add_arguments", "execute"]

_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "text",
        nargs="+",
        help='words; "a phrase", begin*, -without, either OR other, kind:error, task:NAME,'
        " workflow:NAME, run:ID; after '--' a word may begin with a dash",
    )
    parser.add_argument("--limit", type=int, default=20, metavar="N", help="default: 20")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--data-dir", metavar="DIR", help="where runs are recorded")
    parser.set_defaults(handler=execute)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    text = " ".join(arguments.text)
    hits = open_recorded(arguments).search_index.search(text, limit=arguments.limit)
    if arguments.json:
        from flowbuilder.cli.documents import print_json

        print_json([_document(hit) for hit in hits])
        return OK
    from flowbuilder.cli.screen import is_terminal

    is_bold = is_terminal(sys.stdout) and not os.environ.get("NO_COLOR")
    for hit in hits:
        print(_lines(hit, is_bold=is_bold))
    if not hits:
        print("nothing found")
    return OK


def _lines(hit: SearchHit, *, is_bold: bool) -> str:
    from flowbuilder.api.display_text import visible_text
    from flowbuilder.ids import short_id

    place = f"{hit.workflow}  {hit.task}" if hit.task else hit.workflow
    head = f"{hit.time:%Y-%m-%d %H:%M:%S}  {short_id(hit.run_id)}  {hit.kind}  {place}"
    pieces, end = [], 0
    for start, stop in hit.marks:
        matched = visible_text(hit.text[start:stop])
        matched = f"{_BOLD}{matched}{_PLAIN}" if is_bold else f"«{matched}»"
        pieces += [visible_text(hit.text[end:start]), matched]
        end = stop
    return f"{visible_text(head)}\n    {''.join(pieces)}{visible_text(hit.text[end:])}"


def _document(hit: SearchHit) -> dict[str, object]:
    return {
        "run_id": hit.run_id,
        "workflow": hit.workflow,
        "kind": hit.kind,
        "task": hit.task,
        "attempt": hit.attempt,
        "time": hit.time.isoformat(),
        "text": hit.text,
        "marks": hit.marks,
    }
