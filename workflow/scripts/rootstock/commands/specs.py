"""Specs out of files that trainings left."""

import json
from typing import Any

from ..job.job import read_spec
from ..study.spec import BaseSpec, FinetuneSpec


def spec_of(content: dict[str, Any]) -> BaseSpec | FinetuneSpec:
    """The spec of a model or checkpoint from its plain form: a fine-tune's has a mode. `Refusal` where it is none."""
    return read_spec(json.dumps(content), "fine-tune" if "mode" in content else "base")
