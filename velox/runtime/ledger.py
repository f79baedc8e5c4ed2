"""The ledger: where every record of a run went, and whether the counts add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from velox.core.records import SealReason
from velox.errors import LedgerError

__all__ = ["Equation", "Ledger"]

SEAL_REASONS = tuple(reason.name.lower() for reason in SealReason)


@dataclass(frozen=True, slots=True)
class Equation:
    """Two counts of the same records, made at different places.

    Attributes
    ----------
    name : str
        The equation in words, such as ``"generated = pushed + dropped"``.
    left, right : int
        The value of each side.
    """

    name: str
    left: int
    right: int

    @property
    def holds(self) -> bool:
        """Whether both sides are equal."""
        return self.left == self.right

    def __str__(self) -> str:
        relation = "=" if self.holds else "\N{NOT EQUAL TO}"
        return f"{self.name}: {self.left:,} {relation} {self.right:,}"


def _zero_bundles() -> dict[str, int]:
    return dict.fromkeys(SEAL_REASONS, 0)


@dataclass(frozen=True, slots=True)
class Ledger:
    """Counts of records and bundles at every edge of a pipeline, after a run.

    Each count is kept by the stage that did the work. No count is derived from another, so the
    `equations` between them are worth checking. Immutable: the dicts are copies and are not to be
    changed.

    Attributes
    ----------
    generated : int
        Records that the feed had to offer.
    pushed : int
        Records that entered the first ring.
    dropped : int
        Records refused by a full ring, under ``on_full="drop"``.
    applied : int
        Records that the order book took.
    rejected : dict of str to int
        Records that it refused, by reason.
    emitted : int
        Records that the strategy emitted: up to 16 for each applied record. The default forwards
        each.
    blocked : dict of str to int
        Emitted records that no book could take, by reason: ``kind``, ``side``, ``market``,
        ``size``, ``price``, ``off_tick``. They go no further.
    passed : int
        Emitted records that go on. If it is not given: those that were not blocked.
    bundles : dict of str to int
        Bundles sealed, by reason: ``size``, ``timeout``, ``idle``, ``drain``.
    sealed_transactions : int
        Records in them.
    delivered_bundles, delivered_transactions : int
        What the output handed over.
    undelivered_bundles, undelivered_transactions : int
        What was given up because the output had failed.

    Raises
    ------
    LedgerError
        A count is not an integer or is negative, or `bundles` has other keys.

    Examples
    --------
    >>> ledger = Ledger(generated=20, pushed=18, dropped=2, applied=17, rejected={"price": 1},
    ...                 emitted=17, bundles={"size": 1, "timeout": 1, "idle": 0, "drain": 0},
    ...                 sealed_transactions=17, delivered_bundles=2, delivered_transactions=17)
    >>> ledger.balanced
    True
    >>> ledger.check()
    """

    generated: int = 0
    pushed: int = 0
    dropped: int = 0
    applied: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    emitted: int = 0
    blocked: dict[str, int] = field(default_factory=dict)
    # __post_init__ makes a count of it.
    passed: int = None  # type: ignore[assignment]
    bundles: dict[str, int] = field(default_factory=_zero_bundles)
    sealed_transactions: int = 0
    delivered_bundles: int = 0
    delivered_transactions: int = 0
    undelivered_bundles: int = 0
    undelivered_transactions: int = 0

    def __post_init__(self) -> None:
        dicts = ("rejected", "blocked", "bundles")
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name == "passed" and value is None:
                # Both have been checked by now.
                value = self.emitted - sum(self.blocked.values())
                object.__setattr__(self, "passed", value)
            if each.name in dicts:
                if not isinstance(value, Mapping):
                    raise LedgerError("must be a dict of counts", field=each.name, value=value)
                for key, count in value.items():
                    _check_count(f"{each.name}[{key!r}]", count)
                object.__setattr__(self, each.name, dict(value))
            else:
                _check_count(each.name, value)
        if set(self.bundles) != set(SEAL_REASONS):
            raise LedgerError(
                f"must have exactly the keys {', '.join(SEAL_REASONS)}",
                field="bundles",
                value=self.bundles,
            )

    def equations(self, *, forwarding: bool = False) -> list[Equation]:
        """Return what must hold of the counts once the pipeline has stopped and drained.

        Parameters
        ----------
        forwarding : bool
            Whether the default strategy ran, which sends on each record that was applied. A
            strategy of the user's need not, so that nothing links the two counts then.
        """
        rejected = sum(self.rejected.values())
        blocked = sum(self.blocked.values())
        bundles = sum(self.bundles.values())
        delivered = self.delivered_transactions + self.undelivered_transactions
        equations = [
            Equation("generated = pushed + dropped", self.generated, self.pushed + self.dropped),
            Equation("pushed = applied + rejected", self.pushed, self.applied + rejected),
            Equation("emitted = blocked + passed", self.emitted, blocked + self.passed),
            Equation("passed = sealed_transactions", self.passed, self.sealed_transactions),
            Equation(
                "bundles = delivered_bundles + undelivered_bundles",
                bundles,
                self.delivered_bundles + self.undelivered_bundles,
            ),
            Equation(
                "sealed_transactions = delivered_transactions + undelivered_transactions",
                self.sealed_transactions,
                delivered,
            ),
        ]
        if forwarding:
            equations.insert(2, Equation("applied = emitted", self.applied, self.emitted))
        return equations

    @property
    def balanced(self) -> bool:
        """Whether every one of `equations` holds, whatever the strategy."""
        return all(equation.holds for equation in self.equations())

    def check(self, *, forwarding: bool = False) -> None:
        """Raise if an equation does not hold.

        Parameters
        ----------
        forwarding : bool
            As in `equations`.

        Raises
        ------
        LedgerError
            Lists each equation that fails, with both numbers.
        """
        failing = [each for each in self.equations(forwarding=forwarding) if not each.holds]
        if failing:
            raise LedgerError("the ledger does not balance: " + "; ".join(map(str, failing)))

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and `balanced`, ready for JSON.

        `sealed_transactions` is left out: in a balanced ledger it equals ``passed``.
        """
        values: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            values[each.name] = dict(value) if isinstance(value, dict) else value
        del values["sealed_transactions"]
        values["bundles"] = {reason: self.bundles[reason] for reason in SEAL_REASONS}
        values["balanced"] = self.balanced
        return values

    def format(self, *, forwarding: bool = False) -> str:
        """Return a small aligned table for a terminal; `str` gives the same.

        Parameters
        ----------
        forwarding : bool
            As in `equations`.
        """
        blocked = sum(self.blocked.values())
        screened: list[tuple[str, int]] = [
            ("blocked", blocked),
            *(("  " + reason, count) for reason, count in sorted(self.blocked.items()) if count),
            ("passed", self.passed),
        ]
        rows: list[tuple[str, int]] = [
            ("generated", self.generated),
            ("  pushed", self.pushed),
            ("  dropped", self.dropped),
            ("applied", self.applied),
            ("rejected", sum(self.rejected.values())),
            *(("  " + reason, count) for reason, count in sorted(self.rejected.items()) if count),
            ("emitted", self.emitted),
            # Without a strategy nothing is blocked.
            *(screened if blocked else ()),
            ("sealed transactions", self.sealed_transactions),
            ("  delivered", self.delivered_transactions),
            ("  undelivered", self.undelivered_transactions),
            ("sealed bundles", sum(self.bundles.values())),
            *(("  by " + reason, self.bundles[reason]) for reason in SEAL_REASONS),
            ("  delivered", self.delivered_bundles),
            ("  undelivered", self.undelivered_bundles),
        ]
        label_width = max(len(label) for label, _ in rows)
        count_width = max(len(f"{count:,}") for _, count in rows)
        lines = [f"{label:<{label_width}}  {count:>{count_width},}" for label, count in rows]
        failing = [each for each in self.equations(forwarding=forwarding) if not each.holds]
        lines.append(f"{'balanced':<{label_width}}  {'no' if failing else 'yes':>{count_width}}")
        lines += [f"  {each}" for each in failing]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.format()

    def __add__(self, other: Ledger) -> Ledger:
        """Return the ledger of both together: of several lanes, or of several runs."""
        if not isinstance(other, Ledger):
            return NotImplemented
        sums: dict[str, Any] = {}
        for each in fields(self):
            mine, theirs = getattr(self, each.name), getattr(other, each.name)
            if isinstance(mine, dict):
                sums[each.name] = {
                    key: mine.get(key, 0) + theirs.get(key, 0) for key in {**mine, **theirs}
                }
            else:
                sums[each.name] = mine + theirs
        return Ledger(**sums)


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise LedgerError("must be a count, an int of at least 0", field=name, value=value)
