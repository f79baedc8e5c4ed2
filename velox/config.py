"""Every setting of a pipeline, checked before a thread starts."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from velox.core.instrument import MAX_LEVELS, MIN_LEVELS
from velox.errors import ConfigError

__all__ = ["PipelineConfig", "stage_names"]

Clock: TypeAlias = Literal["auto", "tsc", "cntvct", "kernel", "virtual"]
HugePages: TypeAlias = Literal["auto", "always", "never"]
Idle: TypeAlias = Literal["spin", "yield", "backoff"]
OnCross: TypeAlias = Literal["count", "reject", "uncross", "match"]
OnFull: TypeAlias = Literal["block", "drop"]
Publish: TypeAlias = Literal["record", "event"]
Seal: TypeAlias = Literal["timeout", "idle"]

PLACEMENTS = ("auto", "invoker", "shared", "paired", "dedicated")
MAX_LANES = 16
MAX_CAPACITY = 1 << 24
MAX_BATCH = 4096
# The counts below reach C as int, the durations as int64_t.
MAX_INT = 2**31 - 1
MAX_INT64 = 2**63 - 1


def stage_names(lanes: int) -> tuple[str, ...]:
    """Name every stage of a pipeline, in pipeline order.

    Examples
    --------
    >>> stage_names(1)
    ('ingress', 'orderbook', 'bundle', 'output')
    >>> stage_names(2)
    ('ingress0', 'orderbook0', 'ingress1', 'orderbook1', 'bundle', 'output')
    """
    suffixes = [""] if lanes == 1 else [str(lane) for lane in range(lanes)]
    heads = [stage + suffix for suffix in suffixes for stage in ("ingress", "orderbook")]
    return (*heads, "bundle", "output")


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """Every setting of a pipeline; the defaults run anywhere.

    NumPy integers are taken for integers, lists for tuples; a bool is never a number. A config is
    immutable, so threads may share it.

    Attributes
    ----------
    placement : {"auto", "invoker", "shared", "paired", "dedicated"} or mapping of str to int
        Which threads run the stages, see ``docs/placement.md``. A mapping names the CPU of each
        stage; stages on the same CPU share a thread.
    cpus : tuple of int or None
        The CPUs to pin to, first runner first; None chooses from those that the process may use.
        Not together with a mapping.
    idle : {"spin", "yield", "backoff"}
        What a runner does when no stage had work: keep the core, offer it to others, or sleep in
        growing steps.
    strict : bool
        Refuse more spinning runners than usable CPUs, instead of yielding with a warning.
    lanes : int
        How many ingress and order book stages run side by side, 1 to 16.
    writers : int
        How many threads write the book. 1 is the book of a single writer, without a locked
        instruction; 2 or more is the shared one. At least `lanes`, which it is unless told.
    levels : int
        Price levels a side that a book keeps in its window: a power of two, 64 to 262,144.
    on_cross : {"count", "reject", "uncross", "match"}
        What the book does about input that crosses it.
    on_full : {"block", "drop"} or None
        What the ingress does when the ring is full: wait, or drop the newest and count it. None
        leaves it to the ingress: replay blocks, open-loop flow drops.
    transaction_capacity : int
        Slots of each record ring: a power of two, 2 to 16,777,216.
    bundle_capacity : int
        Slots of the bundle ring: a power of two, 2 to 16,777,216.
    bundle_timeout_ns : int
        Longest time that a bundle stays open, in nanoseconds, at least 1.
    seal : {"timeout", "idle"}
        When a bundle that is not full is sealed: at its timeout, or also as soon as the input has
        run dry.
    batch : int
        Most items that a stage moves in one duty cycle, 1 to 4096.
    clock : {"auto", "tsc", "cntvct", "kernel", "virtual"}
        Where time comes from, as `velox.core.clock.Clock` has it: the CPU's counter under its name
        on x86-64 or aarch64, the kernel, a clock driven by hand; ``auto`` takes the counter
        wherever it can be trusted, and the kernel elsewhere.
    huge_pages : {"auto", "always", "never"}
        Whether rings and books ask the kernel for huge pages: each block of 2 MiB or more, every
        block (rounded to 2 MiB), or none. What was granted is in the report.
    publish : {"record", "event"}
        When the book's readers see a change: after each record, or after the last record of an
        event (`Flags.LAST`).

    Raises
    ------
    ConfigError
        A field cannot be used; the message names it, its value, and what is allowed.

    Examples
    --------
    >>> PipelineConfig(placement="shared", bundle_timeout_ns=50_000).idle
    'spin'
    >>> PipelineConfig(batch=0)
    Traceback (most recent call last):
        ...
    velox.errors.ConfigError: batch = 0: must be an integer, 1 to 4096
    """

    placement: str | Mapping[str, int] = "auto"
    cpus: tuple[int, ...] | None = None
    idle: Idle = "spin"
    strict: bool = False
    lanes: int = 1
    writers: int | None = None
    levels: int = 1024
    on_cross: OnCross = "count"
    on_full: OnFull | None = None
    transaction_capacity: int = 4096
    bundle_capacity: int = 1024
    bundle_timeout_ns: int = 100_000
    seal: Seal = "timeout"
    batch: int = 256
    clock: Clock = "auto"
    huge_pages: HugePages = "auto"
    publish: Publish = "record"

    def __post_init__(self) -> None:
        if not isinstance(self.strict, bool):
            raise ConfigError("must be True or False", field="strict", value=self.strict)

        for name, choices in _CHOICES.items():
            _check_choice(name, getattr(self, name), choices)
        if self.on_full is not None:
            _check_choice(
                "on_full", self.on_full, get_args(OnFull), "; None leaves it to the ingress"
            )

        writers = self.lanes if self.writers is None else self.writers
        object.__setattr__(self, "writers", writers)
        for name, (low, high) in _RANGES.items():
            object.__setattr__(self, name, _integer(name, getattr(self, name), low, high))
        for name, (low, high) in _POWERS_OF_TWO.items():
            object.__setattr__(self, name, _power_of_two(name, getattr(self, name), low, high))

        if self.lanes > 1 and writers < self.lanes:
            raise ConfigError(
                f"must be at least {self.lanes}, since lanes = {self.lanes} and each lane writes "
                "the same book",
                field="writers",
                value=writers,
            )

        # These two last, for they depend on the lanes.
        object.__setattr__(self, "placement", self._checked_placement())
        object.__setattr__(self, "cpus", self._checked_cpus())

    @property
    def shares_book(self) -> bool:
        """bool: Whether several threads may write a book."""
        return self.writers is not None and self.writers > 1

    def _checked_placement(self) -> str | Mapping[str, int]:
        if not isinstance(self.placement, Mapping):
            _check_choice("placement", self.placement, PLACEMENTS, ", or a mapping of stage to CPU")
            return self.placement
        stages = stage_names(self.lanes)
        for stage in self.placement:
            if stage not in stages:
                raise ConfigError(
                    f"names {stage!r}, but with lanes = {self.lanes} the stages are "
                    f"{', '.join(stages)}",
                    field="placement",
                )
        placed = {
            stage: _integer(f"placement[{stage!r}]", cpu, 0, MAX_INT)
            for stage, cpu in self.placement.items()
        }
        return MappingProxyType(placed)

    def _checked_cpus(self) -> tuple[int, ...] | None:
        if self.cpus is None:
            return None
        if not isinstance(self.placement, str):
            raise ConfigError(
                "must be None where placement names a CPU for each stage",
                field="cpus",
                value=self.cpus,
            )
        if not isinstance(self.cpus, Sequence) or isinstance(self.cpus, str | bytes):
            raise ConfigError(
                "must be a list of CPU numbers, or None", field="cpus", value=self.cpus
            )
        checked = tuple(
            _integer(f"cpus[{index}]", cpu, 0, MAX_INT) for index, cpu in enumerate(self.cpus)
        )
        if not checked or len(set(checked)) < len(checked):
            raise ConfigError(
                "must name at least one CPU, each once", field="cpus", value=list(checked)
            )
        return checked

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> PipelineConfig:
        """Build a config from what a TOML or JSON file holds.

        Parameters
        ----------
        mapping : mapping of str to object
            Values by field name; a field that is absent keeps its default.

        Raises
        ------
        ConfigError
            A key is not a field, in which case the nearest field is suggested; or a value cannot be
            used.

        Examples
        --------
        >>> PipelineConfig.from_mapping({"lane": 2})
        Traceback (most recent call last):
            ...
        velox.errors.ConfigError: lane: not a setting of a pipeline; did you mean 'lanes'?
        """
        if not isinstance(mapping, Mapping):
            raise ConfigError("must be a mapping of settings", field="mapping", value=mapping)
        names = [each.name for each in fields(cls)]
        for key in mapping:
            if key not in names:
                near = get_close_matches(str(key), names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"these are: {', '.join(names)}"
                raise ConfigError(f"not a setting of a pipeline; {hint}", field=str(key))
        return cls(**mapping)

    def to_dict(self) -> dict[str, Any]:
        """Return every field, ready for JSON; `from_mapping` is its inverse.

        Examples
        --------
        >>> config = PipelineConfig(lanes=2, writers=2, cpus=(2, 3, 4))
        >>> PipelineConfig.from_mapping(config.to_dict()) == config
        True
        """
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        if not isinstance(self.placement, str):
            values["placement"] = dict(self.placement)
        if self.cpus is not None:
            values["cpus"] = list(self.cpus)
        return values

    def __reduce__(self) -> tuple[Any, ...]:
        # A read-only mapping can be neither pickled nor copied; its plain form can.
        return type(self).from_mapping, (self.to_dict(),)


_CHOICES: dict[str, tuple[str, ...]] = {
    "idle": get_args(Idle),
    "on_cross": get_args(OnCross),
    "seal": get_args(Seal),
    "clock": get_args(Clock),
    "huge_pages": get_args(HugePages),
    "publish": get_args(Publish),
}
_RANGES = {
    "lanes": (1, MAX_LANES),
    "writers": (1, MAX_INT),
    "bundle_timeout_ns": (1, MAX_INT64),
    "batch": (1, MAX_BATCH),
}
_POWERS_OF_TWO = {
    "levels": (MIN_LEVELS, MAX_LEVELS),
    "transaction_capacity": (2, MAX_CAPACITY),
    "bundle_capacity": (2, MAX_CAPACITY),
}


def _check_choice(name: str, value: object, choices: tuple[str, ...], more: str = "") -> None:
    if not isinstance(value, str) or value not in choices:
        allowed = ", ".join(map(repr, choices))
        raise ConfigError(f"must be one of {allowed}{more}", field=name, value=value)


def _integer(name: str, value: Any, low: int, high: int) -> int:
    """Return a Python int for any integer but a bool, which `operator.index` would take."""
    refusal = ConfigError(f"must be an integer, {low} to {high}", field=name, value=value)
    if isinstance(value, bool):
        raise refusal
    try:
        number = operator.index(value)
    except TypeError:
        raise refusal from None
    if not low <= number <= high:
        raise refusal
    return number


def _power_of_two(name: str, value: Any, low: int, high: int) -> int:
    number = _integer(name, value, low, high)
    if number & (number - 1):
        raise ConfigError(f"must be a power of two, {low} to {high}", field=name, value=number)
    return number
