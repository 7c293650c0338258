"""On the path of the kill test's processes alone: every training step that begins adds a byte to the file
$ROOTSTOCK_STEPS, which may be another for each job of a warm process."""

import importlib.abc
import importlib.machinery
import os
import sys

SEEDING = "rootstock.engine.seeding"


class CountSteps(importlib.abc.MetaPathFinder):
    """Wraps `seed_step`, with which each step begins, as soon as its module is loaded."""

    def find_spec(self, name, path, target=None):
        if name != SEEDING:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            whole = module.seed_step

            def counted(seed, step, *rank):
                if step > 0:  # 0 is for initial weights
                    with open(os.environ["ROOTSTOCK_STEPS"], "ab", buffering=0) as file:
                        file.write(b".")
                whole(seed, step, *rank)

            module.seed_step = counted

        spec.loader.exec_module = exec_module
        return spec


if "ROOTSTOCK_STEPS" in os.environ:
    sys.meta_path.insert(0, CountSteps())
