"""Who is measured: FlowBuilder, the floors and the peers, behind one small interface.

A subject is a class; which of these methods it has decides in which workloads it can take part.

``prepare(graph, function)``
    Make everything ready and return a callable that runs ``function(*outputs of the parents)`` for
    every task of the graph once and returns an iterable of the outputs of the graph's sinks.
``prepare_waits(count, wait_s)``
    Return a callable that has ``count`` workflows of three tasks in flight, the middle one waiting
    ``wait_s`` seconds, and returns how many finished.
``compile_text(text)``
    Parse a workflow text as far as the subject can.
``command(folder)``
    The argument list of a process that runs one shell command as a workflow, and its environment's
    extra variables.
``prepare_cached()``
    Return a function of a number that is cached.
``prepare_digest()``
    Return a function that hashes a table.
``load(table)``, ``append(table)``, ``ask(condition)``
    Take rows, more rows, and give those that meet a condition.
``prepare_history(tasks)``
    Store so many finished task attempts; return functions that answer a dashboard, and one that
    gives the attempts of one run by its id.
``prepare_search(texts)``
    Make texts searchable; return a function that finds a query's newest or best 20, and one that
    makes one more text searchable.
``prepare_chain(rows, stages)``
    Return a callable that runs the chain of table functions once and returns its result and the
    bytes copied between them.
``module``
    What `import` loads.
``close()``
    Let go of threads and files; optional.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["SUBJECTS", "load_subject"]

SUBJECTS = {
    "loop": "benchmarks.subjects.loop:Loop",
    "asyncio": "benchmarks.subjects.asyncio_tasks:AsyncioTasks",
    "threads": "benchmarks.subjects.threads:Threads",
    "dask": "benchmarks.subjects.dask_graphs:DaskGraphs",
    "hamilton": "benchmarks.subjects.hamilton_driver:HamiltonDriver",
    "yaml": "benchmarks.subjects.yaml_readers:YamlReader",
    "python": "benchmarks.subjects.interpreter:Interpreter",
    "bare_calls": "benchmarks.subjects.caches:BareCalls",
    "joblib_memory": "benchmarks.subjects.caches:JoblibMemory",
    "flowbuilder_cache": "benchmarks.subjects.caches:FlowBuilderCache",
    "dataset": "benchmarks.subjects.dataset_store:DatasetStore",
    "duckdb_tables": "benchmarks.subjects.histories:DuckTables",
    "sqlite_rows": "benchmarks.subjects.histories:SqliteRows",
    "flowbuilder_history": "benchmarks.subjects.histories:FlowBuilderHistory",
    "tantivy": "benchmarks.subjects.searches:Tantivy",
    "flowbuilder_search": "benchmarks.subjects.searches:FlowBuilderSearch",
    "called_directly": "benchmarks.subjects.table_chains:CalledDirectly",
    "pickled_chain": "benchmarks.subjects.table_chains:PickledBetweenProcesses",
    "flowbuilder_chain": "benchmarks.subjects.table_chains:FlowBuilderChain",
    "flowbuilder": "benchmarks.subjects.flowbuilder_subject:FlowBuilderSubject",
}


def load_subject(name: str, options: dict[str, object]) -> object:
    """Make a subject; imports its library."""
    module, _, attribute = SUBJECTS[name].partition(":")
    return getattr(import_module(module), attribute)(**options)
