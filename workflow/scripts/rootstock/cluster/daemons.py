"""Start and stop munged, slurmd and slurmctld on servers and on this machine, as an ordinary user."""

import subprocess

from .config import Server
from .root import CHECK, MAKE, NEED, THERE
from .slurm_files import Layout
from .ssh import Unreachable, script_on

REMOVE_SECONDS = 600  # installed packages are tens of thousands of files

# All folders lie below a root that only its owner can enter. munged wants a socket that is open to all users of the
# machine; --force makes it accept a private one. Daemons without root run jobs as their own user, whoever submits them.
FOLDERS = MAKE + 'for name in etc munge socket state spool log run; do mkdir -p -- "$root/$name"; done\n'
# $2 the file, $3 its mode
WRITE = (
    NEED
    + 'umask 077; new=$(mktemp -- "$root/$2.XXXXXXXX") && cat > "$new" && chmod "$3" "$new" && mv -f -- "$new" "$root/$2"'
)
# The programs are those installed, or those that `unpacked` put below the root.
PROGRAMS = (
    CHECK
    + r"""
stepd=
for plugins in "$root"/unpacked/usr/lib/*/slurm-wlm; do
    test "$there" && test -d "$plugins" || continue
    libraries=${plugins%/slurm-wlm}; stepd=$root/unpacked/usr/sbin/slurmstepd
    PATH=$root/unpacked/usr/sbin:$root/unpacked/usr/bin:$PATH
    LD_LIBRARY_PATH=$plugins:$libraries:$root/unpacked${libraries#"$root/unpacked/usr"}; export LD_LIBRARY_PATH
done
PATH=$PATH:/usr/sbin:/sbin; export PATH
"""
)
# A daemon is running when its pid file names a process of its own name.
RUNS = (
    PROGRAMS
    + r"""
runs() { test "$there" && pid=$(cat "$1" 2>/dev/null) && test -n "$pid" && test "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2"; }
"""
)
# Restart a munged that has another key: its cluster was taken down while this server was unreachable.
START_MUNGE = r"""
file="$root/run/munged.pid"; sum=$(cksum < "$root/munge/munge.key")
if runs "$file" munged && test "$(cat "$root/run/munged.sum" 2>/dev/null)" != "$sum"; then
    kill "$pid"; n=0
    while runs "$file" munged && test $n -lt 100; do sleep 0.1; n=$((n + 1)); done
fi
echo "$sum" > "$root/run/munged.sum"
runs "$file" munged || munged --force --key-file="$root/munge/munge.key" --socket="$root/socket/munge.socket" \
    --pid-file="$root/run/munged.pid" --log-file="$root/log/munged.log" --seed-file="$root/munge/seed"
"""
# Restart a running slurmd, because the configuration may have changed; its jobs do not notice.
START_NODE = r"""
export SLURM_CONF="$root/etc/slurm.conf"; file="$root/run/slurmd-$2.pid"
if runs "$file" slurmd; then
    kill "$pid"; n=0
    while runs "$file" slurmd && test $n -lt 100; do sleep 0.1; n=$((n + 1)); done
fi
slurmd ${stepd:+-d "$stepd"} -N "$2"
"""
START_HEAD = r"""
export SLURM_CONF="$root/etc/slurm.conf"; file="$root/run/slurmctld.pid"
if runs "$file" slurmctld; then
    kill "$pid"; n=0
    while runs "$file" slurmctld && test $n -lt 300; do sleep 0.1; n=$((n + 1)); done
fi
slurmctld
"""
STOP = r"""
shift
for name; do
    file="$root/run/$name.pid"; program=${name%%-*}
    runs "$file" "$program" || continue
    kill "$pid"; n=0
    while runs "$file" "$program" && test $n -lt 100; do sleep 0.1; n=$((n + 1)); done
    runs "$file" "$program" && kill -9 "$pid"
done
exit 0
"""
# Jobs outlive their slurmd. SLURM_CONF in the environment shows that a job is this cluster's. It does not show in the
# slurmstepd above, which overwrites its environment with its title. Jobs get ten seconds to save a checkpoint.
END_JOBS = r"""
ours() {
    for folder in /proc/[0-9]*; do
        words=$(tr '\0' '\n' 2>/dev/null < "$folder/environ") || continue
        printf '%s\n' "$words" | grep -qxF "SLURM_CONF=$root/etc/slurm.conf" || continue
        printf '%s\n' "$words" | grep -q '^SLURM_JOB_ID=' && echo "${folder#/proc/}"
    done 2>/dev/null
}
root=$1; found=$(ours); above=
test -n "$found" || exit 0
for pid in $found; do
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null)
    test "$(cat "/proc/$parent/comm" 2>/dev/null)" = slurmstepd && above="$above $parent"
done
kill -TERM $found 2>/dev/null; n=0
while found=$(ours) && test -n "$found" && test $n -lt 20; do sleep 0.5; n=$((n + 1)); done
kill -KILL $found $above 2>/dev/null
exit 0
"""


def write_files(server: Server, layout: Layout, files: dict[str, str], key: bytes) -> None:
    script_on(server, FOLDERS, str(layout.root))
    script_on(server, WRITE, str(layout.root), "munge/munge.key", "600", content=key)
    for name, text in files.items():
        mode = "700" if text.startswith("#!") else "600"
        script_on(server, WRITE, str(layout.root), f"etc/{name}", mode, content=text.encode())


def start_munge(server: Server, layout: Layout) -> None:
    script_on(server, RUNS + THERE + START_MUNGE, str(layout.root))


def start_node(server: Server, layout: Layout) -> None:
    script_on(server, RUNS + THERE + START_NODE, str(layout.root), server.name)


def start_head(here: Server, layout: Layout) -> None:
    script_on(here, RUNS + THERE + START_HEAD, str(layout.root))


def stop(server: Server, layout: Layout, *names: str) -> None:
    script_on(server, RUNS + STOP, str(layout.root), *names)
    if any(name.startswith("slurmd-") for name in names):
        script_on(server, END_JOBS, str(layout.root))


def remove(server: Server, layout: Layout) -> None:
    """Remove the whole folder: configuration, key, spool, logs, copies of packages and models."""
    script_on(server, CHECK + 'rm -rf -- "$root"', str(layout.root), seconds=REMOVE_SECONDS)


def last_lines(server: Server, layout: Layout, count: int = 40) -> str:
    script = NEED + 'tail -n "$3" -- "$root/log/slurmd-$2.log"'
    return script_on(server, script, str(layout.root), server.name, str(count))


def reason_of(error: subprocess.CalledProcessError | Unreachable) -> str:
    """Why a script failed on a server or never reached it, in one line."""
    if isinstance(error, Unreachable):
        return f"not reachable: {error}"
    lines = (error.stderr or b"").decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {error.returncode}"
