"""The beginning of each script that touches the cluster's folder on a server: it ends unless the folder is ours.

machine.private.is_own makes the same checks on this machine. $1 is the folder.
"""

# Afterwards `$there` is empty if there is no such folder. A folder that is a link, another user's or open to others
# ends the script. So does a link or another user's file in it, because the folder may have been open before.
CHECK = r"""
root=$1; there=
refuse() { echo "$1: $2; remove it, or set ROOTSTOCK_CLUSTER_ROOT to another folder" >&2; exit 1; }
mine() {
    test ! -L "$1" || refuse "$1" "is a link"
    test -O "$1" || refuse "$1" "belongs to user $(stat -c %u -- "$1"), not to you"
}
if test -L "$root" || test -e "$root"; then
    mine "$root"; test -d "$root" || refuse "$root" "is no folder"
    mode=$(stat -c %a -- "$root")
    case $mode in *700) ;; *) refuse "$root" "has mode $mode, not 700: others may have been in it" ;; esac
    for part in "$root"/*; do test ! -L "$part" && test ! -e "$part" || mine "$part"; done
    there=yes
fi
"""
THERE = 'test "$there" || { echo "$root: is not there; run cluster.py up" >&2; exit 1; }\n'
NEED = CHECK + THERE
MAKE = (
    'umask 077; mkdir -p -- "$(dirname -- "$1")"; mkdir -m 700 -- "$1" 2> /dev/null\n'
    + CHECK
    + 'test "$there" || { echo "$root: cannot be made there" >&2; exit 1; }\n'
)
