"""Whether a folder or file in a place that others can write is ours alone. Imports nothing heavy: clients of the warm process ask it."""

import os
import stat


def fault_of(status: os.stat_result, is_folder: bool = True) -> str:
    """Why something in a place that others can write is not ours; empty where it is."""
    if stat.S_ISLNK(status.st_mode):
        return "is a link"
    if is_folder and not stat.S_ISDIR(status.st_mode):
        return "is no folder"
    return f"belongs to user {status.st_uid}, not to you" if status.st_uid != os.geteuid() else ""


def too_open(status: os.stat_result) -> str:
    """Why others may have been in a folder of ours; empty where none can."""
    mode = stat.S_IMODE(status.st_mode) & 0o777
    return "" if mode == 0o700 else f"has mode {mode:03o}, not 700: others may have been in it"
