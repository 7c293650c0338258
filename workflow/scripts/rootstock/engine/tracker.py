"""A training's numbers for MLflow, Weights & Biases or Trackio, if the run settings name one; each through its own
client.

A training never fails because of its tracker: rows that cannot be sent wait for another try, and log and metadata have
them all.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from ..study.problems import Refusal
from ..study.run import Tracking

PROJECT = "rootstock"  # the project of the runs, if the client's own variables name no other
PAUSE_SECONDS = 60  # between two tries to reach an unavailable tracker
LONGEST_PARAMETER = 500  # characters; every server accepts that many
HASH = "rootstock.hash"
PATIENCE = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}  # with the defaults a step waits for minutes


class Client(Protocol):
    """A run of a tracker."""

    def log(self, step: int, numbers: dict[str, float]) -> None: ...

    def finish(self) -> None: ...


class Tracker:
    """The run of one training, named by its hash, with its spec as parameters. A resumed training continues the same
    run."""

    def __init__(self, name: Tracking, run: str, spec: dict[str, Any], say: Callable[[str], None]):
        self.name: Tracking = name
        self.run, self.say = run, say
        self.parameters = {"hash": run} | flat(spec)
        self.client: Client | None = None
        self.pending: list[tuple[int, dict[str, float]]] = []
        self.next_try, self.is_told = 0.0, False

    def add(self, step: int, numbers: dict[str, float]) -> None:
        self.pending.append((step, numbers))
        if time.monotonic() >= self.next_try:
            self._send()

    def close(self) -> None:
        """Try once more to send the waiting rows. Report those that could not be sent."""
        if self.pending:
            self._send()
        if self.pending:
            self.say(f"{self.name}: {len(self.pending)} rows were not sent; the training's metadata.json has them")
        if self.client is not None:
            with suppress(Exception):
                self.client.finish()

    def _send(self) -> None:
        try:
            self.client = self.client or CLIENTS[self.name](self.run, self.parameters)
            while self.pending:
                self.client.log(*self.pending[0])
                self.pending.pop(0)
        except Exception as error:  # a client from somebody else can fail in any way
            self.next_try = time.monotonic() + PAUSE_SECONDS
            reason = (f"{type(error).__name__}: {error}".splitlines() or [""])[0][:200]
            if not self.is_told:
                self.say(f"{self.name} is away ({reason}); the training continues, rows wait")
            self.is_told = True


class Mlflow:
    """A run of the experiment that MLFLOW_EXPERIMENT_NAME names, found again by its tag."""

    def __init__(self, run: str, parameters: dict[str, str]):
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        mlflow = import_module("mlflow")
        self.entities, self.client = import_module("mlflow.entities"), mlflow.MlflowClient()
        experiment = mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)).experiment_id
        found = self.client.search_runs([experiment], f"tags.`{HASH}` = '{run}'", max_results=1)
        self.id = (
            found[0] if found else self.client.create_run(experiment, tags={HASH: run}, run_name=run)
        ).info.run_id
        if not found:
            given = [self.entities.Param(name, value) for name, value in parameters.items()]
            self.client.log_batch(self.id, params=given)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        now = int(1000 * time.time())
        self.client.log_batch(
            self.id, [self.entities.Metric(name, value, now, step) for name, value in numbers.items()]
        )

    def finish(self) -> None:
        self.client.set_terminated(self.id)


class Wandb:
    """A run of the project that WANDB_PROJECT names; Trackio has the same calls."""

    module, named, project = "wandb", "id", "WANDB_PROJECT"

    def __init__(self, run: str, parameters: dict[str, str]):
        project = os.environ.get(self.project, PROJECT)
        of_run = {self.named: run, "resume": "allow", "config": parameters}
        self.client = import_module(self.module).init(project=project, **of_run)

    def log(self, step: int, numbers: dict[str, float]) -> None:
        self.client.log(numbers, step=step)

    def finish(self) -> None:
        self.client.finish()


class Trackio(Wandb):
    module, named, project = "trackio", "name", "TRACKIO_PROJECT"


CLIENTS: dict[Tracking, Callable[[str, dict[str, str]], Client]] = {
    "mlflow": Mlflow,
    "wandb": Wandb,
    "trackio": Trackio,
}


def require_tracker(name: Tracking | None) -> None:
    """Raise `Refusal` if the tracker's package is not installed."""
    if name is not None and find_spec(name) is None:
        raise Refusal(f"run.tracker: {name} needs a package: .venv/bin/pip install {name}, or leave it out")


def flat(spec: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A spec as flat parameters, such as `model.d_model: 256`."""
    found: dict[str, str] = {}
    for name, value in spec.items():
        found |= (
            flat(value, f"{prefix}{name}.")
            if isinstance(value, dict)
            else {f"{prefix}{name}": str(value)[:LONGEST_PARAMETER]}
        )
    return found
