#!/usr/bin/env python
"""The store of trained models: list it, show one, verify all, forget one.

base_models.py list             every object with its kind, size and who asked for it
base_models.py show HASH        one object's spec and results
base_models.py verify           read every object: its sha256, and that its spec hashes to its name
base_models.py forget HASH      remove one object, so that it is trained again when a study asks for it
"""

import json
import shutil

from rootstock import cli
from rootstock.store.inventory import inventory, sizes_text
from rootstock.store.lock import holder, is_held
from rootstock.store.objects import stored
from rootstock.study import paths
from rootstock.study.problems import Refusal


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("action", choices=["list", "show", "verify", "forget"])
    parser.add_argument("hash", nargs="?", help="16 hex digits, or enough of them to name one object")
    parser.add_argument("--store", default=paths.STORE, help=f"folder of trained models (default: {paths.STORE})")
    args = parser.parse_args()
    if args.action in ("show", "forget") and not args.hash:
        raise Refusal(f"hash: missing; {args.action} needs one")
    return {"list": list_objects, "show": show, "verify": verify, "forget": forget}[args.action](args)


def list_objects(args) -> int:
    entries = inventory(args.store)
    for entry in entries:
        cli.say(f"{entry.name}  {entry.kind:<10} {sizes_text(entry.size):>9}  {entry.state:<9} {entry.asked_by}")
    cli.say(f"{len(entries)} objects, {sizes_text(sum(entry.size for entry in entries))}")
    return 0


def show(args) -> int:
    kept = stored(args.store, the_one(args))
    cli.say(json.dumps({k: v for k, v in kept.read().items() if k not in ("history", "spec_json")}, indent=1))
    return 0


def verify(args) -> int:
    """Exit status 1 where an object is not what its metadata says."""
    faults = 0
    for entry in inventory(args.store):
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
    kept = stored(args.store, name)
    if is_held(kept.folder / "lock"):
        raise Refusal(f"{name}: is being trained by {holder(kept.folder / 'lock')}; stop that first")
    kept.metadata.unlink(missing_ok=True)  # first: without it the object is not there
    shutil.rmtree(kept.folder)
    cli.say(f"forgot {name}")
    return 0


def the_one(args) -> str:
    """The only object whose name begins with what was given."""
    names = [entry.name for entry in inventory(args.store) if entry.name.startswith(args.hash)]
    if len(names) != 1:
        raise Refusal(f"hash: {args.hash!r} names {len(names)} objects of {args.store}; see `list`")
    return names[0]


if __name__ == "__main__":
    cli.run(main)
