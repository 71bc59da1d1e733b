"""Functions that the same workflow names in YAML and in Python."""

import flowbuilder as fb


@fb.task
def load(day):
    return [1, 2, day]


@fb.task(retries=2, timeout="30s", executor="thread", title="Clean it")
def clean(raw, limit=0.5):
    return [raw, limit]


@fb.task
async def score(rows, factor=1):
    return [rows, factor]
