"""Runs a source and a sink of one's own in an unchanged pipeline."""

from source_and_sink import LadderIngress, VolumeOutput

import velox

output = VolumeOutput()
report = velox.Pipeline(LadderIngress(1000), output).run()
print(output.lots, report.ledger.balanced)
