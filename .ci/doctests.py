"""Runs the examples in the docstrings of every module, compiled ones included."""

import doctest
import importlib
import pkgutil
import sys

import numpy as np

import velox

failed = attempted = 0
for module in pkgutil.walk_packages(velox.__path__, "velox."):
    if module.name == "velox.__main__":
        continue
    result = doctest.testmod(
        importlib.import_module(module.name), extraglobs={"np": np, "velox": velox}
    )
    failed += result.failed
    attempted += result.attempted
result = doctest.testmod(velox)
print(f"{attempted + result.attempted} examples, {failed + result.failed} failed")
sys.exit(bool(failed + result.failed))
