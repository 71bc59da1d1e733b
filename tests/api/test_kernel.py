"""Flows in a real Jupyter kernel: output of cells, interrupts, top-level await."""

import time

import pytest

pytest.importorskip("ipykernel")
manager = pytest.importorskip("jupyter_client.manager")

SETUP = """
import flowbuilder as fb, threading
from flowbuilder.vocabulary import RunState

@fb.task
def load(day):
    print("loading", day)
    return [1, 2]

@fb.task
def count(rows):
    return len(rows)

@fb.workflow
def daily(day: str):
    return count(load(day))
"""


@pytest.fixture
def cell():
    """Run code in a kernel; give what it printed, or the error it ended with."""
    kernel, client = manager.start_new_kernel(kernel_name="python3")

    def run(code, interrupt_after=None):
        message = client.execute(code)
        printed, started = [], time.monotonic()
        while True:
            if interrupt_after is not None and "".join(printed).count(interrupt_after):
                kernel.interrupt_kernel()
                interrupt_after = None
            event = client.get_iopub_msg(timeout=30)
            if event["parent_header"].get("msg_id") != message:
                continue
            kind, content = event["msg_type"], event["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind == "error":
                printed.append(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                return "".join(printed)
            assert time.monotonic() - started < 60

    yield run
    client.stop_channels()
    kernel.shutdown_kernel(now=True)


def test_flows_run_in_a_kernel(cell):
    assert cell(SETUP) == ""
    assert (
        cell("run = daily.run(day='mon'); print(run['count'], run['load'])")
        == "loading mon\n2 [1, 2]\n"
    )
    assert (
        cell("run = await daily.arun(day='tue', echo=False); print(run.logs())")
        == "loading tue\n\n"
    )
    assert (
        cell("run = daily.start(day='wed', echo=False); print(run.result(20))") == "{'count': 2}\n"
    )
    assert (
        cell("print(fb.loads(daily.to_yaml()).run(day='x', echo=False).outputs)")
        == "{'count': 2}\n"
    )

    slow = """
@fb.task
def slow():
    import time
    print("begun", flush=True)
    time.sleep(60)
@fb.workflow
def sleeping(): slow()
sleeping.run()
"""
    assert "KeyboardInterrupt" in cell(slow, interrupt_after="begun")
    assert cell("print(fb.last_run().state)") == "cancelled\n"
    assert cell("print(daily.run(day='again', echo=False).state)") == "succeeded\n"
