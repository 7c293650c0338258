"""torchrun as `job.launch` starts it, a program of its own: why workers ended they say themselves, so it adds one line at most, no
traceback and no table."""

import logging
import os
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> int:
    """torchrun's own flags. Ends as its first worker that failed did, and with `EX_TEMPFAIL` where it was told to stop."""
    logging.disable(logging.ERROR)  # of this process alone: that workers are told to stop, that one failed
    try:
        run.main()
    except SignalException:
        return os.EX_TEMPFAIL
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            name = signal.Signals(-failure.exitcode).name
            print(f"process {rank} of the training was killed by {name}; is there enough memory?", file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return 0


if __name__ == "__main__":
    sys.exit(main())
