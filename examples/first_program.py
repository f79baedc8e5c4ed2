"""Push orders in, take bundles out."""

import numpy as np

import velox

orders = np.zeros(100, velox.TRANSACTION_DTYPE)
orders["id"] = np.arange(100)
orders["price"] = velox.to_fixed("101.25")
orders["size"] = 5

ingress, output = velox.PushIngress(), velox.PullOutput()
with velox.Pipeline(ingress, output) as pipeline:
    ingress.push(orders)
while not output.exhausted:
    with output.poll() as bundles:
        for bundle in bundles:
            print(bundle["count"], velox.SealReason(bundle["reason"]).name)
