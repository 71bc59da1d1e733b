"""Processes for the tests: one that projects, one that prunes, one that reads and stays."""

from __future__ import annotations

import sys
from pathlib import Path

from flowbuilder.history.history import History
from flowbuilder.history.months import Months
from flowbuilder.history.pruning import prune
from flowbuilder.history.search import Search
from flowbuilder.store.sqlite_journal import SqliteJournal


def open_store(folder: Path) -> tuple[SqliteJournal, Months, History]:
    journal = SqliteJournal(folder / "journal.db", is_owner_alive=lambda _: False)
    months = Months(folder / "months")
    (folder / "history").mkdir(exist_ok=True)
    return journal, months, History(journal, months, folder / "history", lambda _: False)


def say(text: str) -> None:
    print(text, flush=True)


def main(action: str, place: str, *more: str) -> None:
    folder = Path(place)
    journal, months, history = open_store(folder)
    if action == "prune":
        say("begin")
        for report in prune(journal, months, now_ns=int(more[0]), grace_s=1.0):
            say(f"{report.month} {report.pruned}")
    elif action == "project":
        say("begin")
        say(str(history.sql("SELECT count(*) FROM tasks").rows[0][0]))
    elif action == "index":
        say("begin")
        search = Search(journal, months, folder / "history")
        say(str(len(search.search("text", limit=10_000))))
    elif action == "read":

        def stay(cursor: object) -> None:
            say("reading")
            sys.stdin.read()

        history.answer(stay)
    elif action == "ask":
        say("begin")
        for _ in range(int(more[0])):
            say(str(history.sql("SELECT count(*) FROM runs").rows[0][0]))
    history.close()
    journal.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
