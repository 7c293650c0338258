"""What benchmarks compare is the same, and what they count is all of it."""

import json
import sys
import threading
import time
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


PARTS = ("steps", "packing", "determinism", "precision", "tasks")


@pytest.mark.parametrize("part", PARTS)
def test_what_is_measured_on_a_gpu_runs_in_small_on_a_cpu(part, tmp_path, monkeypatch):
    import gpu_parts

    rows: list[dict] = []
    monkeypatch.chdir(tmp_path)
    assert tuple(gpu_parts.PARTS) == PARTS
    try:
        gpu_parts.PARTS[part](
            lambda what, **numbers: rows.append({"what": what} | numbers), torch.device("cpu"), tmp_path, True
        )
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_float32_matmul_precision("highest")
    assert rows and not [row for row in rows if "failed" in row], rows
    bits = [row[name] for row in rows for name in ("again", "resumed") if name in row]
    assert set(bits) == ({"same bits"} if part in ("determinism", "tasks") else set())
    json.dumps(rows)


def test_without_a_gpu_nothing_is_measured_and_that_is_said(tmp_path, monkeypatch):
    import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--output", str(tmp_path / "gpu.json")])
    with pytest.raises(SystemExit) as end:
        gpu.main()
    assert (
        end.value.code == "gpu.py: torch sees no GPU here, so nothing was measured"
    )  # which Python prints, and exits with 1
    assert not list(tmp_path.iterdir())


def test_a_part_that_fails_or_takes_too_long_keeps_what_it_told(tmp_path, monkeypatch):
    import gpu

    said = tmp_path / "said"

    class Timer(threading.Thread):
        """Its time is over when the part has told its row."""

        def __init__(self, seconds, end):
            super().__init__(daemon=True)
            self.end = end

        def run(self):
            while not said.exists():
                time.sleep(0.01)
            self.end()

        def cancel(self):
            pass

    def part(then: str) -> list[str]:
        return [sys.executable, "-c", f"""print('a note'); print('{{"what": "x", "ms": 2}}', flush=True); {then}"""]

    rows = [{"what": "x", "ms": 2}]
    assert gpu.told(part("pass"), 60) == {"rows": rows, "error": None}
    assert gpu.told(part("raise ValueError('no luck')"), 60) == {"rows": rows, "error": "ValueError: no luck"}
    monkeypatch.setattr(threading, "Timer", Timer)
    late = gpu.told(part(f"import time; open({str(said)!r}, 'w'); time.sleep(300)"), 60)
    assert late == {"rows": rows, "error": "stopped after 60 s"}
    shown = gpu.table({"about": {"device": "g"}, "parts": {"steps": late}})
    assert "ms 2" in shown and "stopped after 60 s" in shown
    assert sum(gpu.SECONDS.values()) < 8 * 60
