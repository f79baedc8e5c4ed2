"""A Solana cluster and a Jito block engine in this process, which fail as they are told to."""

try:
    import solders as _solders  # noqa: F401
except ImportError as error:
    raise ImportError(
        "velox.testing needs solders and websockets: pip install 'velox[solana]'"
    ) from error

from velox.testing.chain import Bundle
from velox.testing.faults import Fault, FaultPlan, Lie, Strike
from velox.testing.localnet import LocalCluster
from velox.testing.svm import Execution

__all__ = ["Bundle", "Execution", "Fault", "FaultPlan", "Lie", "LocalCluster", "Strike"]
