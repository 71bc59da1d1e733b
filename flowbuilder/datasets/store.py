"""The store of a project's datasets: names, queries over them, what runs used."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import msgspec

from flowbuilder.datasets.adaptive_index import AdaptiveIndex, IndexInfo, IndexingHandle
from flowbuilder.datasets.advice import Recommendation
from flowbuilder.datasets.dataset import Dataset, nanoseconds
from flowbuilder.datasets.frames import caller_scope
from flowbuilder.datasets.index_builder import Budget, BuildReport
from flowbuilder.datasets.janitor import remove_orphans
from flowbuilder.datasets.names import check_dataset_name
from flowbuilder.datasets.parts import FOLDER_NAME, RunPlace, StoreParts
from flowbuilder.datasets.query_result import QueryResult
from flowbuilder.datasets.querying import Question, answer
from flowbuilder.datasets.sql_session import SqlSession
from flowbuilder.datasets.uses import DatasetUse, note_use_in, uses_of_run
from flowbuilder.errors import StorageError

__all__ = ["Store", "StoreOptions"]


def _nobody() -> RunPlace:
    return RunPlace()


class StoreOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a store behaves in this process.

    Parameters
    ----------
    is_thorough : bool
        Whether each file is read against its checksum before its first use (about 1 GB/s); else
        only its size is compared.
    threads : int or None
        Threads a query may use.
    is_restricted : bool
        Whether queries may reach nothing but datasets and what is handed to them.
    indexing : Budget or None
        What building indexes unasked may take each time; None builds none unasked.
    asking : callable
        Gives the run and task of the calling thread.
    run_output : callable or None
        Gives the output of a task, by the suffix of its run's id and its name.
    """

    is_thorough: bool = True
    threads: int | None = None
    is_restricted: bool = False
    indexing: Budget | None = None
    asking: Callable[[], RunPlace] = _nobody
    run_output: Callable[[str, str], object] | None = None


class Store:
    """Named datasets of one store directory. Any thread, any number of processes.

    Parameters
    ----------
    data_dir : Path
        The store directory (``.flowbuilder``).
    options : StoreOptions
        How it behaves.
    """

    def __init__(self, data_dir: Path, options: StoreOptions | None = None) -> None:
        self._options = options or StoreOptions()
        folder = data_dir / FOLDER_NAME
        self._parts = StoreParts(
            folder, is_thorough=self._options.is_thorough, asking=self._options.asking
        )
        self._index = AdaptiveIndex(self._parts, self._options.indexing)
        self._session = SqlSession(
            folder, threads=self._options.threads, is_restricted=self._options.is_restricted
        )

    @property
    def folder(self) -> Path:
        """Where the files are."""
        return self._parts.folder

    def dataset(self, name: str) -> Dataset:
        """Give a dataset by name, there or not; `Dataset.append` makes it.

        Raises
        ------
        StorageError
            If it cannot be a name.
        """
        checked = check_dataset_name(name)
        found = self._parts.catalogue.find(checked)
        known = checked if found is None else found.name
        return Dataset(known, self._parts, self._session, self._changed)

    def __getitem__(self, name: str) -> Dataset:
        return self.dataset(name)

    def datasets(self) -> list[Dataset]:
        """List the datasets by name."""
        return [
            Dataset(row.name, self._parts, self._session, self._changed)
            for row in self._parts.catalogue.all()
        ]

    def __iter__(self) -> Iterator[Dataset]:
        return iter(self.datasets())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._parts.catalogue.find(name) is not None

    def drop(self, name: str) -> None:
        """Remove a dataset with all its versions; readers keep theirs until they let go.

        Raises
        ------
        StorageError
            If there is none.
        """
        self._parts.catalogue.drop(self._parts.catalogue.get(name))
        self.clean()

    def query(
        self,
        sql: str,
        params: Mapping[str, object] | Sequence[object] | None = None,
        *,
        tables: Mapping[str, object] | None = None,
        versions: Mapping[str, int] | None = None,
        as_of: dt.datetime | None = None,
        use_index: bool = True,
    ) -> QueryResult:
        """Answer one SELECT.

        A name in it is, in this order: a key of ``tables``; a dataset; ``run_<suffix>.task``, the
        output of a task of a recorded run; a variable of the caller, local before global, that
        holds an Arrow, polars or pandas table.

        Parameters
        ----------
        sql : str
            DuckDB's SQL.
        params : mapping or sequence, optional
            Values for ``$name``, or for ``?``.
        tables : mapping, optional
            Tables by the name the query uses; a `Snapshot` is one too.
        versions : mapping of str to int, optional
            Versions of datasets; others are read at their newest.
        as_of : datetime, optional
            Read datasets as they were then.
        use_index : bool
            Whether indexes may be used; the answer is the same either way.

        Returns
        -------
        QueryResult
            Every dataset is read at one version, whatever is written meanwhile.

        Raises
        ------
        StorageError
            If it is no SELECT, names something unknown, or fails.
        """
        question = Question(
            text=sql,
            params=params,
            tables=tables or {},
            versions=versions or {},
            as_of_ns=None if as_of is None else nanoseconds(as_of),
            scope=tuple(caller_scope(1)),
        )
        return self._answer(question, use_index=use_index)

    def _answer(self, question: Question, *, use_index: bool) -> QueryResult:
        return answer(
            self._parts,
            self._session,
            question,
            narrower=self._index.lookup if use_index else None,
            run_output=self._options.run_output,
            observe=self._index.observed,
        )

    def recommendations(self) -> list[Recommendation]:
        """Say which indexes would have paid for the queries so far, the largest gain first."""
        return self._index.recommendations()

    def build(
        self,
        index: Recommendation | None = None,
        *,
        dataset: str = "",
        column: str = "",
        kind: str = "sorted",
        seconds: float = float("inf"),
        max_bytes: float = float("inf"),
    ) -> BuildReport:
        """Build an index now, or what is missing of it.

        Parameters
        ----------
        index : Recommendation, optional
            What `recommendations` said; or name it by the three that follow.
        dataset, column : str
            What to index.
        kind : {"sorted", "lookup"}
            A sorted copy of the rows, or only keys with row numbers.
        seconds : float
            Stop after so much work; finished pieces stay and help.
        max_bytes : float
            Stop before all indexes of the store take more.

        Returns
        -------
        BuildReport
            What was built, and what is left.

        Raises
        ------
        StorageError
            If there is no such column, or it cannot be sorted by.
        """
        if index is not None:
            dataset, column, kind = index.dataset, index.columns[0], index.kind
        budget = Budget(seconds=seconds, size_bytes=max_bytes)
        return self._index.build(dataset, column, kind, budget)

    def start_indexing(
        self, *, seconds: float = 60.0, max_bytes: float = 10 * 2**30
    ) -> IndexingHandle:
        """Build what is recommended on a thread of its own, waiting while this process writes.

        Parameters
        ----------
        seconds : float
            Stop after so much work.
        max_bytes : float
            Stop before all indexes of the store take more.

        Returns
        -------
        IndexingHandle
            To wait for, or to cancel.
        """
        return self._index.start(Budget(seconds=seconds, size_bytes=max_bytes))

    def indexes(self) -> list[IndexInfo]:
        """List the indexes there are."""
        return self._index.indexes()

    def drop_index(self, dataset: str, column: str) -> int:
        """Remove the indexes on a column; return how many."""
        return self._index.drop(dataset, column)

    def note_use(self, run_id: str, dataset: str, version: int, *, task: str = "") -> None:
        """Record that a run used a version of a dataset, so that it is kept and can be found.

        Queries and snapshots of a task do this by themselves.

        Raises
        ------
        StorageError
            If there is no such dataset or version.
        """
        row = self._parts.catalogue.get(dataset)
        if not self._parts.catalogue.has_version(row.dataset_id, version):
            raise StorageError(
                f"dataset {row.name!r} has no version {version} (any more)",
                hint="history() lists the versions there are",
            )
        note_use_in(self._parts.catalogue, run_id, task, row.dataset_id, version)

    def uses(self, run: str) -> list[DatasetUse]:
        """List the versions a run used, by its id or a suffix of it."""
        return uses_of_run(self._parts.catalogue, run)

    def check(self) -> list[str]:
        """Read every file against its checksum; return what is wrong, in words.

        Raises
        ------
        StorageError
            If the catalogue itself is damaged.
        """
        self._parts.checks.forget()
        problems = []
        for row in self._parts.catalogue.all():
            with self._parts.snapshot(row) as snapshot:
                for file in snapshot.manifest.files:
                    try:
                        self._parts.checks.check(row.dataset_id, [file], dataset=row.name)
                    except StorageError as error:
                        problems.append(str(error))
        return problems

    def clean(self, *, grace_s: float = 600.0) -> int:
        """Remove files that crashed writers and dropped datasets left; return how many.

        Indexes of files that are gone, and those no query used for 30 days, go too.

        Parameters
        ----------
        grace_s : float
            Younger files stay, in seconds, as do those of processes that live.
        """
        parts = self._parts
        self._index.tidy()
        return remove_orphans(parts.catalogue, parts.pins, parts.folder, grace_s=grace_s)

    def _changed(self) -> None:
        """React to a new version."""
        self._index.changed()

    def close(self) -> None:
        """Close files and the database of queries. May be repeated."""
        self._index.close()
        self._session.close()
        self._parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        names = [row.name for row in self._parts.catalogue.all()]
        return f"<Store {self._parts.folder.parent}: {', '.join(names) or 'no datasets'}>"
