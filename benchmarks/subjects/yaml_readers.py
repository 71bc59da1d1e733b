"""Floors for reading a workflow text: libyaml's events alone, and PyYAML's ordinary loader."""

from __future__ import annotations

from collections import deque

import yaml

__all__ = ["YamlReader"]


class YamlReader:
    """``what="events"`` walks libyaml's events, ``what="load"`` builds dicts and lists with the C
    loader."""

    module = "yaml"

    def __init__(self, what: str = "events") -> None:
        self._what = what

    def compile_text(self, text: str) -> object:
        if self._what == "load":
            return yaml.load(text, Loader=yaml.CSafeLoader)  # the text is our own
        return deque(yaml.parse(text, Loader=yaml.CSafeLoader), maxlen=0)
