"""Events as JSON for ``runs events``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flowbuilder.cli.documents import output_document
from flowbuilder.records import ABSENT, Event

__all__ = ["event_document"]


def event_document(event: Event, keys: Sequence[str]) -> dict[str, object]:
    """Describe an event; ``task`` is the key of its instance."""
    fields = {
        name: value for name, value in msgspec.structs.asdict(event).items() if value is not ABSENT
    }
    instance = fields.get("instance")
    document: dict[str, object] = {
        "kind": str(event.__struct_config__.tag),
        "seq": fields.pop("seq"),
    }
    if isinstance(instance, int) and 0 <= instance < len(keys):
        document["task"] = keys[instance]
    document.update({name: output_document(value) for name, value in fields.items()})
    return document
