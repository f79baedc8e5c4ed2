# Nothing for Python: see process.pxd.
