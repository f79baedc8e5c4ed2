"""python setup.py build_ext --inplace && python use_total.py && python use_imbalance.py"""

from Cython.Build import cythonize
from setuptools import setup

setup(ext_modules=cythonize(["total.pyx", "imbalance.pyx"], language_level=3))
