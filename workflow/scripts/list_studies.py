#!/usr/bin/env python
"""List the studies of this project with a line each."""

from pathlib import Path

from rootstock.commands import cli
from rootstock.study.problems import StudyError
from rootstock.study.reading import read_file


def main() -> int:
    cli.parser(__doc__).parse_args()
    files = [Path("config/config.yaml"), *sorted(Path("config/studies").glob("*.yaml"))]
    for file in files:
        cli.say(f"{file!s:<45} {about(file)}")
    return 0


def about(file: Path) -> str:
    """What a study says of itself, or why nothing is known of it: one that cannot be read hides no other."""
    try:
        study = read_file(file)
    except StudyError as error:
        return str(error)
    if not isinstance(study, dict):
        return "is not a study; it needs keys and values"
    return str(study.get("description", study.get("study", "")))


if __name__ == "__main__":
    cli.run(main)
