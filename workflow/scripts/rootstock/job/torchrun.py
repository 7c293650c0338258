"""torchrun, as the program that `job.launch` starts. The workers report their own faults, so it adds at most one line: no traceback
and no table."""

import logging
import os
import signal
import sys

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError


def main() -> int:
    """Run torchrun with its own flags. Return the exit status of the first worker that failed; `EX_TEMPFAIL` after a signal."""
    logging.disable(logging.ERROR)  # in this process only: that it stops workers, that one failed
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
