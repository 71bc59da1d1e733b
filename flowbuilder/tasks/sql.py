"""Task type ``sql``: a query over upstream tables, which it names like tables of a database."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from flowbuilder.cache.subject import Subject
from flowbuilder.errors import FlowBuilderError, TaskFailedError
from flowbuilder.model import Cache
from flowbuilder.plugins.task_type import Finding, TaskCall, TaskType
from flowbuilder.runtime.cancel import CancelToken
from flowbuilder.tasks.sql_database import SqlPlace, open_cursor
from flowbuilder.tasks.sql_files import reads_files
from flowbuilder.tasks.sql_inputs import offer, read_inputs
from flowbuilder.tasks.sql_names import SqlOutline, sql_outline
from flowbuilder.tasks.sql_results import scan_of, table_of
from flowbuilder.tasks.sql_tokens import sql_tokens
from flowbuilder.tasks.tables import from_arrow, require
from flowbuilder.vocabulary import Effects

__all__ = ["SqlTask"]

_INTERRUPT_EVERY_S = 0.02
_ERROR_LINE = re.compile(r"^LINE (\d+):", re.MULTILINE)
_ERROR_NAME = re.compile(r'"([^"]+)"|with name (\S+) does not exist')
_ERROR_KIND = re.compile(r"[A-Z][A-Za-z ]+ Error: ")
_outline = lru_cache(maxsize=256)(sql_outline)


class SqlTask(TaskType):
    """Run SQL in DuckDB over the outputs of other tasks.

    Every input port and every upstream task that the text names in table position is a view of that
    name, read in place: Arrow, polars and pandas frames, mappings of columns, lists of mappings.
    Naming a task makes the query depend on it. Values enter only as bound parameters (``args``,
    written ``$name``), so data never becomes code.

    Notes ----- Several statements are allowed if the last returns rows; they then share a database
    of their own that vanishes with the task. Zoned timestamps come out in UTC (the same instants),
    sums of integers as 64-bit integers where they fit.
    """

    name: ClassVar[str] = "sql"
    summary: ClassVar[str] = "Query upstream tables with DuckDB"
    raw_fields: ClassVar[frozenset[str]] = frozenset({"query"})
    schema: ClassVar[Mapping[str, object]] = {
        "type": "object",
        "additionalProperties": False,
        "required": ["query"],
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": 1_048_576,
                "description": "SQL; upstream tasks and input ports are tables. Taken as written.",
            },
            "args": {
                "type": "object",
                "default": {},
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                "description": "Values for $name in the query; never pasted into the text.",
            },
            "output": {
                "enum": ["arrow", "polars", "pandas", "scan", "rows", "value"],
                "default": "arrow",
                "description": "Type of the result: a table of some library, a table on disk "
                "(for results larger than memory), a list of dicts, or the only cell of the only "
                "row.",
            },
        },
    }

    def effects(self, config: Mapping[str, object]) -> Effects:
        """Say ``none`` for reading and for tables that vanish; ``COPY``, ``ATTACH`` do more."""
        is_contained = _outline(_text(config)).is_contained
        return Effects.NONE if is_contained else Effects.EXTERNAL

    def check(self, config: Mapping[str, object], directory: Path) -> Iterable[Finding]:
        """Find templates, arguments that do not fit the text, statements without a result."""
        del directory
        query, args = config.get("query"), config.get("args", {})
        if not isinstance(query, str) or not isinstance(args, Mapping):
            return
        yield from _template_findings(query)
        outline = _outline(query)
        yield from _argument_findings(outline, args)
        if outline.statements == 0:
            yield Finding("expected a SQL statement, found none", ("query",))
        if outline.statements > 1 and not outline.ends_in_query:
            yield Finding(
                f"expected the last of {outline.statements} statements to return rows",
                ("query",),
                hint="end with a SELECT, or split the text into several tasks",
            )

    def references(self, config: Mapping[str, object], tasks: Collection[str]) -> Iterable[str]:
        """Name the tasks that stand in table position in the query."""
        mentioned = {name.casefold() for name in _outline(_text(config)).tables}
        if not mentioned:
            return ()
        return [task for task in tasks if task.casefold() in mentioned]

    def cache_refusal(self, config: Mapping[str, object], cache: Cache) -> tuple[str, str] | None:
        """Refuse a query that reads files the author did not name."""
        if cache.files is None and reads_files(_text(config)):
            return (
                "the query reads files",
                "name them: 'cache: {files: [...]}'; 'files: []' if it does not",
            )
        return None

    def cache_subject(self, call: TaskCall) -> Subject:
        """Name the query, its arguments and the tables it mentions."""
        mentioned = {name.casefold() for name in _outline(_text(call.config)).tables}
        tables = {
            name: source[name]
            for source in (call.upstream, call.inputs)
            for name in source
            if name.casefold() in mentioned
        }
        # Token by token: comments and white space do not count.
        words = [[token.kind, token.text] for token in sql_tokens(_text(call.config))]
        return Subject(
            arguments={**call.config, "query": words},
            inputs=tables,
            libraries=("duckdb", "pyarrow"),
        )

    def run(self, call: TaskCall) -> object:
        """Run the query and return its rows as ``output`` says."""
        duckdb = require("duckdb", "a sql task")
        require("pyarrow", "a sql task")
        query, output = _text(call.config), str(call.config.get("output", "arrow"))
        _check_output(call, output)
        outline = _outline(query)
        tables = read_inputs(call, outline.tables)
        is_private = outline.statements != 1 or not outline.ends_in_query
        try:
            with (
                open_cursor(_place(call, output), is_private=is_private) as cursor,
                _interrupted_by(call.cancel, cursor),
            ):
                give = _execute(cursor, query, call, tables)
                result = scan_of(give, call) if output == "scan" else table_of(give, call)
        except duckdb.Error as error:
            call.cancel.raise_if_cancelled()
            raise _failure(error, call, tables) from error
        except OSError as error:  # what DuckDB says through a stream of Arrow batches
            call.cancel.raise_if_cancelled()
            if _ERROR_KIND.match(str(error)) is None:
                raise
            raise _failure(error, call, tables) from error
        call.cancel.raise_if_cancelled()
        if output == "scan":
            return result
        return _only_value(result) if output == "value" else from_arrow(result, output)


def _text(config: Mapping[str, object]) -> str:
    query = config.get("query")
    return query if isinstance(query, str) else ""


def _template_findings(query: str) -> Iterator[Finding]:
    for number, line in enumerate(query.split("\n"), start=1):
        if "${{" in line:
            yield Finding(
                "expected plain SQL, found a ${{ }} template",
                ("query",),
                line=number,
                hint='write $name here and `args: {name: "${{ ... }}"}` beside the query',
            )


def _argument_findings(outline: SqlOutline, args: Mapping[str, object]) -> Iterator[Finding]:
    wanted = dict(outline.parameters)
    for name, line in wanted.items():
        if name[0] in "?$":
            yield Finding(
                f"expected named parameters such as $name, found {name!r}", ("query",), line=line
            )
        elif name not in args:
            yield Finding(
                f"the query uses ${name}, which `args` does not give",
                ("query",),
                line=line,
                hint=f"add `args: {{{name}: ...}}`",
            )
    for name in args:
        if name not in wanted:
            yield Finding(
                f"the query does not use ${name}",
                ("args", name),
                hint="remove the argument, or write it in the query outside quotes",
            )


def _check_output(call: TaskCall, output: str) -> None:
    if output == "scan" and call.is_confidential:
        raise TaskFailedError(
            "expected no `output: scan` where encrypted outputs are made or read: a table on disk"
            " cannot be encrypted",
            location=call.locate(("output",), 1),
            task=call.name,
            hint="use `output: arrow`, or aggregate until it fits into memory",
        )


def _place(call: TaskCall, output: str) -> SqlPlace:
    return SqlPlace(
        call.policy,
        "" if call.is_confidential else str(call.temporary / "sql"),
        call.memory_bytes,
        output == "polars",
    )


def _execute(cursor: Any, query: str, call: TaskCall, tables: Mapping[str, Any]) -> Any:
    """Run all statements but the last; give a function that makes the relation of that."""
    for name, table in tables.items():
        offer(cursor, name, table, call.policy)
    if call.policy != "restricted" and "'" in query and "," not in str(call.directory):
        cursor.execute("SET SESSION file_search_path = $path", {"path": str(call.directory)})
    args = call.config.get("args") or {}
    assert isinstance(args, Mapping)
    *before, last = cursor.extract_statements(query)
    for statement in before:
        cursor.execute(statement, _bound(statement, args))
    return lambda: cursor.sql(last, params=_bound(last, args))


def _bound(statement: Any, args: Mapping[str, object]) -> dict[str, object] | None:
    """DuckDB refuses parameters a statement does not name."""
    return {name: args[name] for name in statement.named_parameters if name in args} or None


@contextlib.contextmanager
def _interrupted_by(token: CancelToken, cursor: Any) -> Iterator[None]:
    """Stop the query when ``token`` is set.

    DuckDB forgets an interrupt that arrives before a statement begins, so it is repeated until the
    block has ended.
    """
    token.raise_if_cancelled()
    finished, guard = threading.Event(), threading.Lock()

    def insist() -> None:
        while not finished.wait(_INTERRUPT_EVERY_S):
            with guard:  # never on a connection that is being closed
                if not finished.is_set():
                    cursor.interrupt()

    token.on_cancel(
        lambda: None if finished.is_set() else threading.Thread(target=insist, daemon=True).start()
    )
    try:
        yield
    finally:
        with guard:
            finished.set()


def _only_value(table: Any) -> object:
    if table is None or table.num_columns != 1 or table.num_rows != 1:
        found = "no result" if table is None else f"{table.num_rows} x {table.num_columns}"
        raise FlowBuilderError(
            f"expected one row of one column for `output: value`, found {found}",
            hint="use `output: rows`, or aggregate in the query",
        )
    value: object = table.column(0)[0].as_py()
    return value


def _failure(error: Exception, call: TaskCall, tables: Mapping[str, Any]) -> TaskFailedError:
    """Say where in the workflow file, and which tables there are if one is missing."""
    text = str(error)
    location = call.locate(("query",), _error_line(text, _text(call.config)))
    hint = ""
    if "Table with name" in text:
        known = ", ".join(sorted({*call.upstream, *call.inputs, *tables})) or "none"
        hint = f"tables of this task: {known}; add the task to depends_on or inputs"
    elif "Out of Memory" in text:
        hint = "raise memory_limit, of which queries get half, or give the machine more memory"
    message = text.partition("\n\n")[0].replace("\n", " ")
    return TaskFailedError(
        message, location=location, task=call.name, hint=hint, error_type=type(error).__name__
    )


def _error_line(message: str, query: str) -> int:
    """Find the line an error is about: DuckDB's, else that of the name it complains of."""
    line = _ERROR_LINE.search(message)
    if line is not None and _outline(query).statements == 1:
        return int(line[1])
    name = _ERROR_NAME.search(message)
    wanted = (name[1] or name[2]).casefold() if name else None
    lines = (token.line for token in sql_tokens(query) if token.text.casefold() == wanted)
    return next(lines, 1)
