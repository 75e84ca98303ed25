"""A kernel that is interrupted or restarted while an explorer computes runs its lesson again."""

import sys
import time
from pathlib import Path

import pytest
from jupyter_client.manager import start_new_kernel

EXAMPLE = Path(__file__).parents[1] / "browser"
START = f"import sys; sys.path.insert(0, {str(EXAMPLE)!r}); import kit_example as kit"
RUN = "shown = kit.explorer(); print(shown.wait(60), shown.view.summary)"
MOVE = "shown.set(spread=5.0); print(shown.wait(60), shown.result.params.spread)"
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def kernel():
    manager, client = start_new_kernel(startup_timeout=TIMEOUT_S)
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def run(client, code: str) -> tuple[str, str]:
    """How a cell ended, and what it printed."""
    said = []

    def heard(message: dict) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=TIMEOUT_S, output_hook=heard)
    return reply["content"].get("ename") or reply["content"]["status"], "".join(said)


def interrupted(manager, client, code: str) -> str:
    """How a cell ended that was interrupted while it computed."""
    asked = client.execute(code)
    time.sleep(1)
    manager.interrupt_kernel()
    while True:
        reply = client.get_shell_msg(timeout=TIMEOUT_S)
        if reply["parent_header"].get("msg_id") == asked:
            return reply["content"].get("ename", "ok")


@pytest.mark.skipif(sys.platform == "win32", reason="an interrupt there is another thing")
def test_interrupted_and_restarted_it_runs_again(kernel):
    manager, client = kernel
    assert run(client, START)[0] == "ok"
    # While a cell makes the explorer, on the main thread.
    assert interrupted(manager, client, "shown = kit.explorer(hurry='slow')") == "KeyboardInterrupt"
    assert run(client, RUN) == ("ok", "True " + summary(client))
    # While its worker computes: the cell that waits is given up, the explorer answers on.
    slow = "shown.set(hurry='slow', spread=3.0); shown.wait(60)"
    assert interrupted(manager, client, slow) == "KeyboardInterrupt"
    assert run(client, "shown.set(hurry='quick'); " + MOVE) == ("ok", "True 5.0\n")
    # Restarted while it computes.
    client.execute("shown.set(hurry='slow', spread=3.0)")
    manager.restart_kernel(now=True)
    client.wait_for_ready(timeout=TIMEOUT_S)
    assert run(client, "shown")[0] == "NameError"
    assert run(client, START + "\n" + RUN)[0] == "ok"
    assert run(client, MOVE) == ("ok", "True 5.0\n")


def summary(client) -> str:
    """What the explorer says of its defaults, asked of the compute function."""
    code = (
        "from intuitive.common.runtime import never; from intuitive.common.training import silent"
    )
    code += "\nprint(kit.present(kit.run(kit.ShareParams(), stale=never, progress=silent)).summary)"
    return run(client, code)[1]
