"""Builds the examples: python setup.py build_ext --inplace

Needs Cython and setuptools, which ``pip install cython setuptools`` gives.
"""

from pathlib import Path

from Cython.Build import cythonize
from setuptools import setup

import velox

# Where `cimport velox...` finds its .pxd files, however velox is installed.
PACKAGES = str(Path(velox.__file__).parents[1])

setup(
    ext_modules=cythonize(
        ["total.pyx", "imbalance.pyx", "source_and_sink.pyx", "market_maker.pyx"],
        language_level=3,
        include_path=[PACKAGES],
    )
)
