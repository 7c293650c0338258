#!/usr/bin/env python
"""The store of trained models: what it holds, who uses what, and what nobody needs any more.

base_models.py list                  every object with its kind, size and the studies that use it
base_models.py show HASH             one object's spec and results
base_models.py verify                read every object: its sha256, and that its spec hashes to its name
base_models.py forget HASH           remove one object; it is trained again when a study asks for it
base_models.py users                 the studies that ran on this store, from all projects
base_models.py retire STUDY          this project no longer needs what STUDY reaches; --project PATH: one that moved or is gone
base_models.py gc --configfile F …   show what neither these studies nor any user reaches; --yes removes it
"""

import json
import re
import shlex
import sys
from pathlib import Path

from rootstock.commands import cli
from rootstock.controller.planning import content_of_workflow, plan_content
from rootstock.store.garbage import find_garbage, free, remove
from rootstock.store.inventory import Entry, inventory, sizes_text
from rootstock.store.objects import stored
from rootstock.store.users import retire_user, users_of
from rootstock.study import paths
from rootstock.study.problems import Refusal

NEEDS = {"show": "the hash of an object", "forget": "the hash of an object", "retire": "the name of a study"}
SHOWN = 4  # of the published copies of what is removed
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def main() -> int:
    parser = cli.parser(__doc__)
    actions = {
        "list": list_objects,
        "show": show,
        "verify": verify,
        "forget": forget,
        "users": users,
        "retire": retire,
        "gc": collect,
    }
    parser.add_argument("action", choices=actions)
    parser.add_argument("name", nargs="?", help="a hash (or its first digits, enough to name one object), or a study")
    parser.add_argument(
        "--store",
        type=cli.store_folder,
        help=f"folder of trained models (default: {paths.STORE}; for gc: the studies' own)",
    )
    parser.add_argument("--configfile", nargs="+", default=[], metavar="F", help="gc: studies whose models stay")
    parser.add_argument(
        "--older-than", default="0d", metavar="TIME", help="gc: only what lay untouched so long: 30d, 12h"
    )
    parser.add_argument("--project", type=cli.path_text, help="retire: the project of the record, as `users` shows it")
    parser.add_argument("--yes", action="store_true", help="gc: remove it; without, it is only shown")
    args = parser.parse_args()
    if args.action in NEEDS and not args.name:
        raise Refusal(f"{args.action}: needs {NEEDS[args.action]}")
    if args.action != "gc":
        args.store = args.store or paths.STORE
    if args.store and not Path(args.store).is_dir() and not Path("Snakefile").exists():
        raise Refusal(f"{args.store}: no such folder; run this in the project's folder, or name the store by --store")
    return actions[args.action](args)


def list_objects(args) -> int:
    entries, known = inventory(args.store), users_of(args.store, cli.say)
    for entry in entries:
        using = sorted({user.study for user in known if entry.name in user.reaches})
        used_by = f"used by {', '.join(using)}" if using else f"used by no study ({entry.asked_by or 'unknown'})"
        cli.say(f"{entry.name}  {entry.kind:<10} {sizes_text(entry.size):>9}  {entry.state:<10} {used_by}")
    _say_faults(entries)
    cli.say(f"{len(entries)} objects, {sizes_text(sum(entry.size for entry in entries))}")
    return 0


def _say_faults(entries: list[Entry]) -> int:
    """A line for each object that is passed over; how many there are."""
    faults = [entry.fault for entry in entries if entry.fault]
    for fault in faults:
        cli.say(fault)
    return len(faults)


def show(args) -> int:
    kept = stored(args.store, the_one(args))
    shown = {k: v for k, v in kept.read().items() if k not in ("history", "spec_json")}
    known = users_of(args.store, lambda fault: print(cli.printable(fault), file=sys.stderr))
    shown["used_by"] = [f"{user.study} ({user.project})" for user in known if kept.hash in user.reaches]
    cli.say(json.dumps(shown, indent=1))
    return 0


def verify(args) -> int:
    """Exit status 1 where an object is not what its metadata says."""
    entries = inventory(args.store)
    faults = _say_faults(entries)
    for entry in entries:
        if entry.state != "whole":
            continue
        try:
            stored(args.store, entry.name).read()
        except Refusal as reason:
            faults += 1
            cli.say(str(reason))
    cli.say(f"{faults} damaged" if faults else "all whole")
    return 1 if faults else 0


def forget(args) -> int:
    name = the_one(args)
    copies = published_here([entry for entry in inventory(args.store) if entry.name == name])
    remove(args.store, name)
    cli.say(f"forgot {name}")
    _say_copies(copies, "and a run uses them: delete them too")
    return 0


def published_here(entries: list[Entry]) -> list[str]:
    """What this project shows of some objects: files in base_models/, folders in experiments/."""
    found = []
    for entry in entries:
        folder = entry.asked_by.rpartition(" ")[2]  # of a fine-tune
        is_mine = folder.startswith("experiments/") and ".." not in folder and Path(folder).is_dir()
        found += [path for path in (paths.base_model(entry.name), folder * is_mine) if path and Path(path).exists()]
    return found


def _say_copies(copies: list[str], what: str) -> None:
    if copies:
        more = f" and {len(copies) - SHOWN} more" if len(copies) > SHOWN else ""
        cli.say(f"published copies stay, {what}: {', '.join(copies[:SHOWN])}{more}")


def users(args) -> int:
    for user in users_of(args.store, cli.say):
        cli.say(f"{user.study:<30} {len(user.reaches):>6} objects  {user.person}, {user.project}")
    return 0


def retire(args) -> int:
    project = Path(args.project or Path.cwd())
    if not retire_user(args.store, project, args.name):
        others = sorted(user.project for user in users_of(args.store, cli.say) if user.study == args.name)
        fix = f"retire {args.name} --project {shlex.quote(others[0])}" if others else "see `users`"
        raise Refusal(f"retire: {args.name!r} has no record of {args.project or 'this project'} in {args.store}; {fix}")
    cli.say(f"retired {args.name}; gc may now free what only it reached")
    return 0


def collect(args) -> int:
    """Free what no given study and no recorded user reaches; without --yes only say what that is."""
    older_than = seconds(args.older_than)
    if not args.configfile:
        raise Refusal("--configfile: missing; gc needs at least one study whose models stay")
    plans = [plan_content(content_of_workflow([file], None)) for file in args.configfile]
    stores = {str(Path(args.store or plan.study.store).resolve()): plan.study.store for plan in plans}
    if len(stores) > 1:
        raise Refusal(
            f"--configfile: these studies have {len(stores)} stores ({', '.join(stores.values())}); say --store"
        )
    store = args.store or next(iter(stores.values()))
    reached = set().union(*(plan.reaches for plan in plans))
    _say_faults(inventory(store))
    garbage = find_garbage(store, reached, older_than)
    for item in garbage:
        gone = args.yes and free(store, item, reached)
        verb = "freed" if gone else "would free" if not args.yes else "kept, it is needed now:"
        cli.say(f"{verb} {item.text}, {sizes_text(item.size)}")
    _say_copies(
        published_here([item.entry for item in garbage]), "and hold their disk space until they are deleted too"
    )
    total = f"{len(garbage)} to free, {sizes_text(sum(item.size for item in garbage))}"
    cli.say(f"{total}; nothing was removed, say --yes to remove it" if garbage and not args.yes else total)
    return 0


def seconds(text: str) -> float:
    """A duration such as 30d, 12h, 45m or 2w."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text)
    if not found:
        raise Refusal(f"--older-than: {text!r} is no duration; write 30d, 12h, 45m or 2w")
    return float(found[1]) * UNITS[found[2]]


def the_one(args) -> str:
    """The only object whose name begins with what was given."""
    names = [entry.name for entry in inventory(args.store) if entry.name.startswith(args.name)]
    if len(names) != 1:
        raise Refusal(f"hash: {args.name!r} names {len(names)} objects of {args.store}; see `list`")
    return names[0]


if __name__ == "__main__":
    cli.run(main)
