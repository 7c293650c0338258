#!/usr/bin/env python
"""Measure the page of 1,008 experiments: CPU seconds, size, and in Chromium the seconds until its tables are ready.

    .venv/bin/python benchmarks/page.py [--study config/studies/shared_base_grid.yaml] [--repeats 5]

Results are made up. There are no models, so the page draws no features.
"""

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "workflow/scripts"))

from rootstock.controller.planning import content_of_workflow, plan_content  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "config/studies/shared_base_grid.yaml")
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        publish(args.study, folder)
        command = [sys.executable, str(ROOT / "workflow/scripts/report.py"), "--study", str(args.study.resolve())]
        subprocess.run([*command, "--output", "out/report.html"], cwd=folder, check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page = folder / "out/report.html"
        print(f"{used.ru_utime + used.ru_stime:.1f} CPU s, {page.stat().st_size / 1e6:.1f} MB")
        print("ready in a browser after", ready(page, args.repeats))


def publish(study: Path, folder: Path) -> None:
    """Write made-up results for every experiment of a study."""
    draw = random.Random(0)
    for experiment in plan_content(content_of_workflow([str(study)], None)).experiments.values():
        place = folder / experiment.path
        place.mkdir(parents=True)
        before = 0.7 + 0.2 * draw.random()
        metrics = {"n_target_train": 30, "test": measured(before + 0.1 * (draw.random() - 0.2))}
        metrics |= {part: measured(before) for part in ("base_test", "base_all") if experiment.base}
        about = {"hash": experiment.hash, "metrics": metrics, "epochs": 20, "best_epoch": 15, "seconds": 1.2}
        (place / "metrics.json").write_text(json.dumps(about))
        losses = [{"epoch": k, "train_loss": 1 / k, "val_loss": 1.1 / k} for k in range(1, 21)]
        (place / "losses.json").write_text(json.dumps(losses))


def measured(accuracy: float) -> dict:
    confusion = [[5 * (row == column) for column in range(7)] for row in range(7)]
    return {"loss": 1 - accuracy, "accuracy": accuracy, "f1": accuracy, "n": 35, "confusion": confusion}


def ready(page: Path, repeats: int) -> str:
    """Seconds from opening the address to the page's mark that all tables are ready: least – median – most."""
    from playwright.sync_api import sync_playwright

    took = []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(repeats):
            tab = browser.new_page()
            begun = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("html[data-ready=yes]", state="attached")
            took.append(time.perf_counter() - begun)
            tab.close()
        browser.close()
    return f"{min(took):.2f} – {statistics.median(took):.2f} – {max(took):.2f} s"


if __name__ == "__main__":
    main()
