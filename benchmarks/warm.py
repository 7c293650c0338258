#!/usr/bin/env python
"""Run the trainings of a study in one process, after everything is loaded: their cost without starts. For `bench.py`.

python benchmarks/warm.py study.yaml [--base N]       # all, or the N-th base model alone; the last line is CPU seconds
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow/scripts"))

from rootstock.job.job import Job
from rootstock.job.train import train
from rootstock.study import paths
from rootstock.study.config import parse_study
from rootstock.study.planner import make_plan
from rootstock.tasks.registry import TASKS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study")
    parser.add_argument("--base", type=int)
    args = parser.parse_args()
    plan = make_plan(*parse_study(json.loads(Path(args.study).read_text()), TASKS))
    plan.study.task.trainer()
    begun = time.process_time()
    for number, base in enumerate(plan.bases.values()):
        if args.base in (None, number):
            kept = train(Job(base.spec, base.data, paths.STORE, expect=json.loads(base.expect)))
            kept.publish_base(Path(paths.base_model(base.hash)), paths.base_metadata(Path(paths.base_model(base.hash))))
    for tuned in plan.experiments.values() if args.base is None else ():
        kept = train(Job(tuned.spec, tuned.data, paths.STORE, expect=json.loads(tuned.expect)))
        kept.publish_experiment(Path(tuned.path))
    print(time.process_time() - begun)


if __name__ == "__main__":
    main()
