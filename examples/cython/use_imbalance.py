"""Runs the Cython strategy over a second of synthetic flow."""

from imbalance import make

import velox

strategy, state = make()
report = velox.Pipeline(velox.PoissonIngress(seed=3), strategy=strategy).run(duration=1.0)
assert state.seen == report.ledger.applied
assert state.sent == report.ledger.delivered_transactions
print(f"{state.seen} updates seen, {state.sent} orders sent")
