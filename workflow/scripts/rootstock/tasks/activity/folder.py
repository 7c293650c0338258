"""A user's folder of windows: which people have files there, however the names are spelt. Light."""

import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from ...study.fields import LABEL_RULE, is_label
from ...study.problems import Problems

SPLITS = ("train", "val", "test")
ENDINGS = tuple(f"_{split}.pt" for split in SPLITS)
_SPLIT, _FORM = r"(?P<split>train(ing)?|val(id(ation)?)?|test(ing)?)", r"\.(pth?|np[yz])"
NEARLY = re.compile(rf"(?P<person>.+?)[\s._-]+{_SPLIT}{_FORM}", re.IGNORECASE)
NEARLY_SPLIT_FIRST = re.compile(rf"{_SPLIT}[\s._-]+(?P<person>.+?){_FORM}", re.IGNORECASE)


def file_of(folder: Path, person: str, split: str) -> Path:
    """The file of one part of a person's windows, whether or not it exists."""
    there = [file for file in _spellings(folder, person, split) if os.path.isfile(file)]
    return (there or _spellings(folder, person, split))[0]


def files_of(folder: Path, person: str) -> list[Path]:
    """The files of all parts of a person's windows."""
    return [file_of(folder, person, split) for split in SPLITS]


def people_in(folder: Path, problems: Problems) -> tuple[str, ...]:
    """Everyone of whom a folder has a part, sorted; hidden files do not count. Report a part whose name no person can
    have, and a file that looks like a part of somebody who would be left out."""
    files = _listed(folder, problems)
    for file in files:
        if file.endswith(ENDINGS) and not file.startswith(".") and not is_label(_person(file)):
            problems.add("data.path", str(folder / file), f"needs {LABEL_RULE}, before its ending; rename the file")
    people = _people(files)
    for stray in _strays(folder, files):
        if stray.person not in people:
            stray.report(folder, problems)
    if len(people) < 2:
        fix = "needs {participant}_train.pt, _val.pt and _test.pt of two people or more"
        problems.add("data.path", str(folder), fix)
    return tuple(sorted(people))


def check_files(folder: Path, person: str, key: str, problems: Problems) -> None:
    """Report a person, listed under `key`, of whom a folder has nothing, and parts that are missing or there twice."""
    is_there = any(os.path.lexists(file) for split in SPLITS for file in _spellings(folder, person, split))
    if not is_there and _report_nobody(folder, person, key, problems):
        return
    for split in SPLITS:
        there = [file for file in _spellings(folder, person, split) if os.path.isfile(file)]
        if not there:
            fix = f"no such file; put it there or remove {person} from participants"
            problems.add("data.path", str(_spellings(folder, person, split)[0]), fix)
        if len(there) == 2 and not os.path.samefile(*there):
            fix = "are of one person, whose name is spelt with composed letters and with decomposed ones; keep one of them"
            problems.add("data.path", [str(file) for file in there], fix)


def _report_nobody(folder: Path, person: str, key: str, problems: Problems) -> bool:
    """Report what may be meant by a person of whom a folder has no file. Return whether anything was reported."""
    files = _listed(folder, problems)
    mine = [stray for stray in _strays(folder, files) if stray.person == person]
    for stray in mine:
        stray.report(folder, problems)
    people = sorted(_people(files))
    if not mine and people:
        problems.unknown(key, person, people)
    return bool(mine or people)


@dataclass(frozen=True)
class _Stray:
    """A file that looks like a part of a person's windows but is not read."""

    file: str
    person: str
    split: str

    def report(self, folder: Path, problems: Problems) -> None:
        how = "name it" if self.file.lower().endswith((".pt", ".pth")) else "torch.save it as"
        fix = f"looks like windows of {self.person} and is not read; {how} {self.person}_{self.split}.pt"
        problems.add("data.path", str(folder / self.file), fix)


def _strays(folder: Path, files: list[str]) -> list[_Stray]:
    """The stray files of a folder: of another spelling or format, or in a subfolder named after a person."""
    found = []
    for file in files:
        if file.startswith(".") or file.endswith(ENDINGS):
            continue
        if match := NEARLY.fullmatch(file) or NEARLY_SPLIT_FIRST.fullmatch(file):
            split = next(own for own in SPLITS if match["split"].lower().startswith(own))
            found.append(_Stray(file, _normal(match["person"]), split))
        elif "." not in file:
            own = (split for split in SPLITS if os.path.isfile(folder / file / f"{split}.pt"))
            found += [_Stray(f"{file}/{split}.pt", _normal(file), split) for split in own]
    return [stray for stray in found if is_label(stray.person)]


def _people(files: list[str]) -> set[str]:
    """Everyone who has a part among some files."""
    return {
        name
        for file in files
        if file.endswith(ENDINGS) and not file.startswith(".") and is_label(name := _person(file))
    }


def _person(file: str) -> str:
    return _normal(file.rpartition("_")[0])


def _normal(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _listed(folder: Path, problems: Problems) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        problems.add("data.path", str(folder), f"cannot be listed ({error.strerror}); make it readable")
        return []


def _spellings(folder: Path, person: str, split: str) -> list[Path]:
    """The paths that a part may have: macOS writes letters of names decomposed (NFD), others mostly composed (NFC)."""
    names = dict.fromkeys(unicodedata.normalize(form, person) for form in ("NFC", "NFD"))
    return [folder / f"{name}_{split}.pt" for name in names]
