"""Fills a ring from Python and sums it in Cython."""

import numpy as np
from total import total

import velox

ring = velox.TransactionRing()
orders = np.zeros(1000, velox.TRANSACTION_DTYPE)
orders["size"] = 7
ring.push(orders)
print(total(ring))
