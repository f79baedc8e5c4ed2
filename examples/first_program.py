"""Push orders in, take bundles out, and see what became of them."""

import numpy as np

import velox

orders = np.zeros(100_000, velox.TRANSACTION_DTYPE)
orders["id"] = np.arange(1, len(orders) + 1)
orders["price"] = velox.to_fixed("101.25")
orders["size"] = 5

reasons = dict.fromkeys(velox.SealReason, 0)


def take(output: velox.PullOutput) -> None:
    with output.poll() as bundles:  # an array over the ring itself
        for reason in velox.SealReason:
            reasons[reason] += int((bundles["reason"] == reason).sum())


ingress, output = velox.PushIngress(), velox.PullOutput()
with velox.Pipeline(ingress, output) as pipeline:
    while len(orders):
        # Push what fits now. To wait for room here would be to wait for the poll below.
        orders = orders[ingress.push(orders, timeout=0) :]
        take(output)
while not output.exhausted:
    take(output)

print({reason.name: count for reason, count in reasons.items()})
print(pipeline.report())
