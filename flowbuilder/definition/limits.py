"""How large and how deep a workflow text may be, checked while it is read."""

from __future__ import annotations

import msgspec

__all__ = ["Limits"]


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one YAML text; what exceeds them is a `WorkflowSyntaxError`, never a crash.

    Parameters
    ----------
    max_bytes : int
        Size of the text in UTF-8.
    max_nodes : int
        Scalars, lists and mappings, each alias counted as all it stands for.
    max_depth : int
        Nesting of lists and mappings, through aliases too.
    max_aliases : int
        Uses of an anchor (``*name``).
    max_expanded_characters : int
        Characters of all scalars, each alias counted as all it stands for.
    """

    max_bytes: int = 32 * 1024 * 1024
    max_nodes: int = 2_000_000
    max_depth: int = 64
    max_aliases: int = 1_000
    max_expanded_characters: int = 128 * 1024 * 1024
