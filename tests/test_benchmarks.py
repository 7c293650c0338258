"""What benchmarks compare is the same, and what they count is all of it."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT

from rootstock.tasks.activity.models import build_model
from rootstock.tasks.activity.presets import PRESETS
from rootstock.tasks.activity.specs import Model


@pytest.fixture(autouse=True)
def beside(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))


def test_the_plain_peer_trains_the_same_network():
    import plain

    architecture, settings = PRESETS["test"]
    ours, theirs = build_model(Model(architecture=architecture, settings=settings), 6, 1), plain.Net(6)
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.network.state_dict().values(), strict=True)))
    windows = torch.randn(4, 6, 300)
    assert torch.allclose(theirs(windows), ours(windows)[:, 0], atol=1e-6)


def test_a_daemon_that_is_left_running_is_counted_and_ended(tmp_path):
    from measuring import below, cost_of

    work = "import time; end = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"
    (tmp_path / "daemon.py").write_text(work + "open('up', 'w'); time.sleep(60)")
    (tmp_path / "start.py").write_text(
        "import os, subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, 'daemon.py'], start_new_session=True)\n"
        "while not os.path.exists('up'): time.sleep(0.01)\n"
    )
    cost = cost_of([[sys.executable, "start.py"]], tmp_path)
    assert 0.3 <= cost.cpu < 10 and cost.wall < 30
    assert not [
        pid for pid in below(1) if b"daemon.py" in _command(pid) and Path(f"/proc/{pid}/cwd").resolve() == tmp_path
    ]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_pairs_go_by_turns_and_ratios_are_of_pairs(capsys):
    from measuring import Cost, by_turns

    order: list[str] = []

    def way(name, seconds):
        return lambda: order.append(name) or Cost(seconds.pop(0), 1.0)

    found = by_turns({"ours": way("ours", [1.0, 2.0, 4.0]), "plain": way("plain", [2.0, 8.0, 4.0])}, 3)
    assert order == ["ours", "plain", "plain", "ours", "ours", "plain"]
    assert found["ratios"] == {"cpu, ours / plain": [0.25, 0.5, 1.0], "wall, ours / plain": [1.0, 1.0, 1.0]}
