"""python setup.py build_ext --inplace && python -c "import use_total" """

from Cython.Build import cythonize
from setuptools import setup

setup(ext_modules=cythonize("total.pyx", language_level=3))
