# Nothing for Python: see book.pxd, and order_book.pyi for the Python face.
