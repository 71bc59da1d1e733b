"""Full-text indexes on disk: FlowBuilder's on SQLite's FTS5, and tantivy."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

__all__ = ["FlowBuilderSearch", "Found", "Tantivy"]

_MOST = 20


class Found(NamedTuple):
    """What an index can do."""

    find: Callable[[str], int]
    add: Callable[[str], None]


class FlowBuilderSearch:
    """The index alone, without the journal it is made from; newest first, with snippets."""

    module = "apsw"

    def __init__(self) -> None:
        import apsw

        self._folder = Path(tempfile.mkdtemp())
        self._connection = apsw.Connection(str(self._folder / "search.db"))
        self._connection.pragma("synchronous", "NORMAL")

    def prepare_search(self, texts: Sequence[str]) -> Found:
        from flowbuilder.history.search_documents import Document
        from flowbuilder.history.search_query import parse_search
        from flowbuilder.history.search_tables import SearchTables

        tables = SearchTables(self._connection)
        tables.create({})

        def put(some: Sequence[str]) -> None:
            documents = (Document("log", "task", 1, 0, text) for text in some)
            with self._connection:
                tables.put_documents("run", "workflow", documents)

        put(texts)
        return Found(
            lambda query: len(tables.find(parse_search(query), _MOST)), lambda text: put([text])
        )

    def close(self) -> None:
        self._connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)


class Tantivy:
    """Best first; a text can be found once its writer has committed."""

    module = "tantivy"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp())

    def prepare_search(self, texts: Sequence[str]) -> Found:
        import tantivy

        builder = tantivy.SchemaBuilder()
        builder.add_text_field("text", stored=True)
        schema = builder.build()
        index = tantivy.Index(schema, path=str(self._folder))

        def put(some: Sequence[str]) -> None:
            writer = index.writer(heap_size=64_000_000, num_threads=1)
            for text in some:
                writer.add_document(tantivy.Document(text=[text]))
            writer.commit()
            writer.wait_merging_threads()
            index.reload()

        def find(query: str) -> int:
            searcher = index.searcher()
            parsed = index.parse_query(query, ["text"])
            snippets = tantivy.SnippetGenerator.create(searcher, parsed, schema, "text")
            found = searcher.search(parsed, _MOST).hits
            for _, address in found:
                snippets.snippet_from_doc(searcher.doc(address)).fragment()
            return len(found)

        put(texts)
        return Found(find, lambda text: put([text]))

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
