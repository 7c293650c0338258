#!/usr/bin/env python
"""The warm process: it has torch loaded and forks a process for each job. The first job starts it, nobody else needs to."""

import sys

from rootstock.warm.server import serve

if __name__ == "__main__":
    serve(sys.argv[1])
