"""A user's folder of windows: whose files lie there, however their names are spelt. Light."""

import os
import unicodedata
from pathlib import Path

from ...study.fields import LABEL_RULE, is_label
from ...study.problems import Problems

SPLITS = ("train", "val", "test")
ENDINGS = tuple(f"_{split}.pt" for split in SPLITS)


def file_of(folder: Path, person: str, split: str) -> Path:
    """The file of one part of a person's windows, there or not."""
    there = [file for file in _spellings(folder, person, split) if os.path.isfile(file)]
    return (there or _spellings(folder, person, split))[0]


def files_of(folder: Path, person: str) -> list[Path]:
    """The files of all parts."""
    return [file_of(folder, person, split) for split in SPLITS]


def people_in(folder: Path, problems: Problems) -> tuple[str, ...]:
    """Everyone of whom a folder has a part, sorted. A file whose name no person can have is reported; a hidden one is
    nobody's, as everywhere."""
    people = set()
    for file in _listed(folder, problems):
        name = unicodedata.normalize("NFC", file.rpartition("_")[0])
        if not file.endswith(ENDINGS) or file.startswith("."):
            continue
        if is_label(name):
            people.add(name)
        else:
            problems.add("data.path", str(folder / file), f"needs {LABEL_RULE}, before its ending; rename the file")
    if len(people) < 2:
        fix = "needs {participant}_train.pt, _val.pt and _test.pt of two people or more"
        problems.add("data.path", str(folder), fix)
    return tuple(sorted(people))


def check_files(folder: Path, person: str, problems: Problems) -> None:
    """Report parts of a person that are not there, and parts that are there twice."""
    for split in SPLITS:
        there = [file for file in _spellings(folder, person, split) if os.path.isfile(file)]
        if not there:
            fix = f"no such file; put it there or remove {person} from participants"
            problems.add("data.path", str(_spellings(folder, person, split)[0]), fix)
        if len(there) == 2 and not os.path.samefile(*there):
            fix = "are of one person, whose name is spelt with composed letters and with decomposed ones; keep one of them"
            problems.add("data.path", [str(file) for file in there], fix)


def _listed(folder: Path, problems: Problems) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        problems.add("data.path", str(folder), f"cannot be listed ({error.strerror}); make it readable")
        return []


def _spellings(folder: Path, person: str, split: str) -> list[Path]:
    """macOS writes letters of a file's name decomposed (NFD), others mostly composed (NFC): both mean the same person."""
    names = dict.fromkeys(unicodedata.normalize(form, person) for form in ("NFC", "NFD"))
    return [folder / f"{name}_{split}.pt" for name in names]
