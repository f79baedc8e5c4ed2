# This module has no Python names: see book.pxd, and order_book.pyi for the Python API.
