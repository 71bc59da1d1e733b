"""What must hold of a store after a fault, seen by a fresh process on a plain disk."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import sweep_scenario as scenario

import flowbuilder as fb
from flowbuilder.errors import FlowBuilderError, StorageError
from flowbuilder.records import AttemptFinished, AttemptStarted
from flowbuilder.vocabulary import FINAL_TASK_STATES, RunState, TaskState

FINAL = set(FINAL_TASK_STATES)
DONE = {TaskState.SUCCEEDED, TaskState.CACHED}
SAVED = {"bytes", "array", "text"}


class Facts:
    """What the killed process told before it ended."""

    def __init__(self, folder):
        self.folder = folder
        self.begun, self.ended, self.removing = {}, {}, set()
        self.removed, self.met, self.is_closed = set(), [], False
        path = folder / "acks"
        for line in path.read_text().splitlines() if path.exists() else []:
            what, *words = line.split(" ")
            if what == "begun":
                self.begun[words[0]] = words[1]
            elif what == "ended":
                self.ended[words[0]] = words[1]
            elif what == "resumed":
                self.ended.pop(words[0], None)
            elif what == "removing":
                self.removing.add(words[0])
            elif what == "removed":
                self.removed.add(words[0])
            elif what == "met":
                self.met.append(" ".join(words))
            elif what == "closed":
                self.is_closed = True

    def trace(self, tag):
        path = self.folder / f"{tag}.side"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def durable_ends(self):
        """Ends that were acknowledged with a promise."""
        for run_id, state in self.ended.items():
            durability = self.begun[run_id].split("-")[2]
            is_promised = durability != "none" or self.is_closed
            if is_promised and run_id not in self.removing and state != "failed":
                yield run_id, state


def judge_loss(folder, store):
    """After a kill, a power failure or an error: everything acknowledged, in order, resumable."""
    facts, counts = Facts(folder), Counter()
    if not (store / "journal.db").exists():
        assert not list(facts.durable_ends()), "the journal is gone"
        return counts
    fb.configure(data_dir=store)
    journal = scenario.container().journal
    report = fb.check_store()
    assert report.is_sound, [found.message for found in report.errors]
    states = {summary.run_id: summary.state for summary in journal.list_runs(limit=1000)}
    assert not facts.removed & states.keys(), "a removed run is back"
    for run_id, state in facts.durable_ends():
        assert run_id in states, f"the acknowledged run {facts.begun[run_id]} is lost"
        assert states[run_id] == state, f"{facts.begun[run_id]}: {state} became {states[run_id]}"
        judge_values(run_id, facts.begun[run_id])
        counts["acknowledged"] += 1
    for run_id, state in facts.ended.items():
        if state == "failed":
            assert states.get(run_id) != "succeeded", "the journal says what nobody was told"
    for run_id, tag in facts.begun.items():
        if run_id in states:
            judge_records(journal, run_id, tag, facts)
        elif run_id not in facts.removing and tag.endswith("-task"):
            assert not facts.trace(tag), f"an acknowledged start of {tag} is lost"
    for run_id, state in states.items():
        if state is not RunState.SUCCEEDED and run_id not in facts.removing:
            judge_resume(journal, run_id, facts)
            counts["resumed"] += 1
    report = fb.check_store()
    assert report.is_sound, [found.message for found in report.errors]
    assert goes_on(folder, store), "the store takes no new runs"
    return counts


def judge_values(run_id, tag):
    """Every output that is there is the right one; those that are always kept are there."""
    graph = tag.split("-")[1]
    past = fb.run(run_id)
    kinds = {key: kind for key, _, kind in scenario.GRAPHS[graph]}
    for key, seed in scenario.expected(graph).items():
        assert scenario.seed_of(past[key]) == seed, f"{tag} {key} has a wrong value"
        assert kinds[key] in SAVED or past[key] == seed


def judge_records(journal, run_id, tag, facts):
    events = list(journal.events(run_id))
    assert [event.seq for event in events] == list(range(len(events))), f"{tag} has a gap"
    saved = journal.load_run(run_id)
    keys = saved.version.keys
    states = dict(zip(keys, saved.states, strict=True))
    ended = {keys[e.instance] for e in events if isinstance(e, AttemptFinished)}
    started = {keys[e.instance] for e in events if isinstance(e, AttemptStarted)}
    parents = scenario.parents_of(tag.split("-")[1])
    for key, needs in parents.items():
        if states[key] in DONE:
            assert all(states[parent] in DONE for parent in needs), (
                f"{tag}: {key} before its parents"
            )
    if tag.endswith("-task"):
        for what, key in facts.trace(tag):
            if what == "S":
                assert key in started, f"{tag}: the start of {key} is lost"
                assert all(parent in ended for parent in parents[key]), (
                    f"{tag}: {key} lost a parent"
                )


def judge_resume(journal, run_id, facts):
    """It can be finished, and what was settled is not executed again."""
    tag = facts.begun[run_id]
    saved = journal.load_run(run_id)
    artifacts = scenario.container().artifacts
    settled = set()
    for instance, state in enumerate(saved.states):
        if state not in DONE:
            continue
        if instance in saved.outputs:
            settled.add(saved.version.keys[instance])
        elif instance in saved.artifacts:
            artifacts.load(saved.artifacts[instance])
            settled.add(saved.version.keys[instance])
    before = len(facts.trace(tag))
    again = fb.resume(run_id, check=False)
    if again.state is RunState.FAILED and "-failing-" in tag:
        again = fb.resume(run_id, check=False)  # its second task fails once, as it should
    assert again.state is RunState.SUCCEEDED, f"{tag} ends {again.state} when resumed"
    repeated = {key for what, key in facts.trace(tag)[before:] if what == "S"} & settled
    assert not repeated, f"{tag}: {repeated} were settled and ran again"
    judge_values(run_id, tag)


def goes_on(folder, store):
    flow = scenario.build("small", str(folder / "afterwards"), store)
    return flow.run(echo=False)["c"] == scenario.expected("small")["c"]


def judge_flip(folder, store, *, was_killed, where):
    """After a flipped bit: never a wrong answer; what is wrong is reported, but for a lost tail."""
    facts, counts = Facts(folder), Counter()
    errors, losses = [], []
    try:
        fb.configure(data_dir=store)
        report = fb.check_store()
        errors += [found.message for found in report.errors]
    except FlowBuilderError as error:
        errors.append(str(error))
        report = None
    if report is not None or errors:
        for run_id, state in facts.durable_ends():
            tag = facts.begun[run_id]
            try:
                found = fb.run(run_id)
                if found.state == state:
                    answer_is_right(found, tag)
                else:
                    losses.append(f"{tag} is {found.state}")
            except FlowBuilderError as error:
                name = str(error)
                if isinstance(error, StorageError) and "no run" in name:
                    losses.append(f"{tag} is missing")
                else:
                    counts["refused"] += 1
                    errors.append(name)
            except OSError as error:
                errors.append(str(error))
    if losses and not errors:
        # A log whose checksum does not hold ends there: what follows was never committed.
        assert was_killed, f"unreported: {losses}"
        assert "-wal" in where, f"unreported: {losses}"
        counts["tails"] += 1
    counts["reported"] += bool(errors)
    counts["harmless"] += not errors and not losses
    for text in errors:
        assert "Traceback" not in text
    with suppress(FlowBuilderError):
        scenario.container().close()
    return counts


def answer_is_right(past, tag):
    graph = tag.split("-")[1]
    for key, seed in scenario.expected(graph).items():
        value = past[key]
        assert scenario.seed_of(value) == seed, f"{tag} {key} has a wrong value: {value!r:.60}"


def judge_words(folder, kind):
    """Errors of a full or failing disk say what failed, where, and what to do."""
    facts = Facts(folder)
    for text in facts.met:
        assert "Traceback" not in text
        assert "InternalError" not in text.split(" ")[0], text
        if kind == "enospc":
            assert str(Path(folder, "store")) in text, text
            assert "KB needed" in text, text
            assert "free" in text, text
    return len(facts.met)
