"""FlowBuilder itself. Every call the benchmarks make into it is in this file."""

from __future__ import annotations

from pathlib import Path

__all__ = ["FlowBuilderSubject"]

_SHELL_FLOW = """\
name: hello
tasks:
  - name: say
    type: shell
    config: {command: echo done}
"""


class FlowBuilderSubject:
    """The engine with a durable journal in the sample's own folder."""

    module = "flowbuilder"

    def __init__(self, durability: str = "none") -> None:
        self._durability = durability

    def command(self, folder: str) -> tuple[list[str], dict[str, str]]:
        Path(folder, "hello.flow.yaml").write_text(_SHELL_FLOW, encoding="utf-8")
        arguments = ["run", "hello.flow.yaml", "--quiet", "--data-dir", str(Path(folder, "store"))]
        return ["{python}", "-m", "flowbuilder", *arguments], {}
