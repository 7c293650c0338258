"""Write the reference of commands, docs/commands.md, from the --help of each script: `python docs/commands.py`."""

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/commands.md"
SCRIPTS = sorted(
    path.stem for path in (ROOT / "workflow/scripts").glob("*.py") if path.stem != "warm"
)  # warm.py has no flags
HEAD = """# Commands

Each script is called as `.venv/bin/python workflow/scripts/<name>`. This page is generated from `--help` by
`python docs/commands.py`. `make` itself is explained in [Running a study](running.md).
"""


def help_of(script: str) -> str:
    """What a script prints with --help, at most 98 columns wide and without colours, run in this process."""
    said = io.StringIO()
    plain = {"COLUMNS": "100", "NO_COLOR": "1"}
    argv = [f"workflow/scripts/{script}.py", "--help"]
    with (
        mock.patch.dict(os.environ, plain),
        mock.patch.object(sys, "argv", argv),
        contextlib.redirect_stdout(said),
        contextlib.suppress(SystemExit),
    ):
        importlib.import_module(script).main()
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


def page() -> str:
    parts = [f"## {script}.py\n\n```text\n{help_of(script)}\n```\n" for script in SCRIPTS]
    return "\n".join([HEAD, *parts])


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "workflow/scripts"))
    PAGE.write_text(page())
