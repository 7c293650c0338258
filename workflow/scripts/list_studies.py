#!/usr/bin/env python
"""List the studies of this project with a line each."""

from pathlib import Path

from rootstock.commands import cli
from rootstock.study.reading import read_file


def main() -> int:
    cli.parser(__doc__).parse_args()
    files = [Path("config/config.yaml"), *sorted(Path("config/studies").glob("*.yaml"))]
    for file in files:
        study = read_file(file)
        print(f"{file!s:<45} {study.get('description', study.get('study', ''))}")
    return 0


if __name__ == "__main__":
    cli.run(main)
