"""The definition of every setting of a pipeline.

A setting is one field of `PipelineConfig`. Its default, its limits and its description stand there
once. The checks, the command line and the documentation read them with
`PipelineConfig.settings`.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from textwrap import wrap
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from velox.core.bundle import MAX_LANES
from velox.core.choices import ClockSource, HugePages, OnCross, Publish
from velox.core.instrument import MAX_LEVELS, MIN_LEVELS
from velox.core.integers import INT32_MAX, INT64_MAX
from velox.errors import ConfigError
from velox.settings import suggestion

__all__ = ["PipelineConfig", "Setting", "stage_names"]

Idle: TypeAlias = Literal["spin", "yield", "backoff"]
OnBadOrder: TypeAlias = Literal["block", "stop"]
OnFull: TypeAlias = Literal["block", "drop"]
Placement: TypeAlias = Literal["auto", "invoker", "shared", "paired", "dedicated"]
Seal: TypeAlias = Literal["timeout", "idle"]

MAX_CAPACITY = 1 << 24
MAX_BATCH = 4096
# Counts reach C as int, durations as int64_t.


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
class Setting:
    """The definition of one setting. Immutable, so threads may share it.

    Attributes
    ----------
    name : str
        The field's name.
    default : object
        The value of a field that is not given.
    type : str
        The annotation of the field.
    help : str
        A phrase that says what the setting does.
    notes : str
        Further sentences, for the documentation.
    choices : mapping of str to str
        The words that the setting takes, each with its meaning; empty if it takes none.
    low, high : int or None
        The least and the greatest integer, both allowed; None if the setting takes none.
    power_of_two : bool
        Whether an integer must be a power of two.
    unit : str
        The unit of an integer, or an empty string.
    absent : str
        What the default None means.
    """

    name: str = ""
    default: Any = None
    type: str = ""
    help: str
    notes: str = ""
    choices: Mapping[str, str] = field(default_factory=dict)
    low: int | None = None
    high: int | None = None
    power_of_two: bool = False
    unit: str = ""
    absent: str = ""

    @property
    def allowed(self) -> str:
        """str: The allowed values of the setting, in words."""
        if self.low is not None:
            kind = "a power of two" if self.power_of_two else "an integer"
            return f"{kind}, {self.low} to {self.high}"
        if self.choices:
            return f"one of {', '.join(map(repr, self.choices))}"
        return "True or False" if self.type == "bool" else ""

    @property
    def default_text(self) -> str:
        """str: The default, or its meaning if it is None."""
        return self.absent if self.default is None else str(self.default)


def _about(help: str, notes: str = "", **rest: Any) -> dict[str, Setting]:
    """Return the metadata of a field."""
    return {"setting": Setting(help=help, notes=notes, **rest)}


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """Every setting of a pipeline; the defaults run anywhere.

    A NumPy integer is accepted as an integer, and a list as a tuple. A bool is never a number. A
    config is immutable, so threads may share it. ``docs/reference/settings.md`` has the fields as a
    table, with their options.

    Attributes
    ----------

    Raises
    ------
    ConfigError
        A field cannot be used. The message has its name, its value, and what is allowed.

    Examples
    --------
    >>> PipelineConfig(placement="shared", bundle_timeout_ns=50_000).idle
    'spin'
    >>> PipelineConfig(batch=0)
    Traceback (most recent call last):
        ...
    velox.errors.ConfigError: batch = 0: must be an integer, 1 to 4096
    """

    placement: Placement | Mapping[str, int] = field(
        default="auto",
        metadata=_about(
            "which threads run the stages",
            "A mapping gives the CPU of each stage. Stages on the same CPU share a thread.",
            choices={
                "auto": "by the CPUs that the process may use",
                "invoker": "no thread; the caller drives the stages",
                "shared": "one thread",
                "paired": "two threads",
                "dedicated": "a thread for each stage",
            },
        ),
    )
    cpus: tuple[int, ...] | None = field(
        default=None,
        metadata=_about(
            "the CPUs to pin threads to, the first thread's first",
            "It cannot be combined with a mapping in `placement`.",
            absent="chosen from the CPUs that the process may use",
        ),
    )
    pin: bool = field(
        default=True,
        metadata=_about(
            "pin each thread to its CPU",
            "If the system refuses, the thread runs unpinned and the pipeline warns; with `strict` "
            "it does not start. A `cpus` or a mapping in `placement` needs it.",
        ),
    )
    idle: Idle = field(
        default="spin",
        metadata=_about(
            "what a thread does when no stage has work",
            choices={
                "spin": "keep the core",
                "yield": "offer the core to other threads",
                "backoff": "sleep in growing steps",
            },
        ),
    )
    strict: bool = field(
        default=False,
        metadata=_about(
            "refuse more spinning threads than usable CPUs, and a thread that cannot be pinned",
            "Without it, the former yield, the latter runs unpinned, and the pipeline warns.",
        ),
    )
    lanes: int = field(
        default=1,
        metadata=_about(
            "ingress and book stages that run side by side on one book", low=1, high=MAX_LANES
        ),
    )
    writers: int | None = field(
        default=None,
        metadata=_about(
            "threads that may write the book; 2 or more use the shared, fixed-window book",
            "The book of one writer needs no locked instruction. It must be at least `lanes`.",
            low=1,
            high=INT32_MAX,
            absent="lanes",
        ),
    )
    levels: int = field(
        default=1024,
        metadata=_about(
            "price levels on each side that a book keeps in its window",
            low=MIN_LEVELS,
            high=MAX_LEVELS,
            power_of_two=True,
        ),
    )
    on_cross: OnCross = field(
        default="count",
        metadata=_about(
            "what the book does with a record whose price crosses the other side",
            choices={
                "count": "apply and count it",
                "reject": "reject and count it",
                "uncross": "apply it and remove the levels that it crosses",
                "match": "fill it from the other side, best price first",
            },
        ),
    )
    on_full: OnFull | None = field(
        default=None,
        metadata=_about(
            "what the ingress does when its ring is full",
            choices={"block": "wait", "drop": "drop and count the newest record"},
            absent="drop at a given rate, else block",
        ),
    )
    on_bad_order: OnBadOrder = field(
        default="block",
        metadata=_about(
            "what the pipeline does with a record of a strategy that no book could take",
            "Such a record has an unknown kind, side or market, a size of 0, or a price that is "
            "not positive or off the tick grid.",
            choices={
                "block": "drop it and count it by its reason",
                "stop": "stop the run with a StrategyError",
            },
        ),
    )
    timer_ns: int | None = field(
        default=None,
        metadata=_about(
            "period of the timers of a strategy that takes reports",
            "Each market has a timer of its own. A strategy can also ask for a timer itself.",
            low=1,
            high=INT64_MAX,
            unit="ns",
            absent="no period",
        ),
    )
    transaction_capacity: int = field(
        default=4096,
        metadata=_about(
            "slots of each transaction ring",
            "A strategy needs at least 16.",
            low=2,
            high=MAX_CAPACITY,
            power_of_two=True,
        ),
    )
    bundle_capacity: int = field(
        default=1024,
        metadata=_about("slots of the bundle ring", low=2, high=MAX_CAPACITY, power_of_two=True),
    )
    report_capacity: int = field(
        default=4096,
        metadata=_about(
            "slots of the report ring of a strategy that takes reports",
            low=2,
            high=MAX_CAPACITY,
            power_of_two=True,
        ),
    )
    order_capacity: int = field(
        default=64,
        metadata=_about(
            "orders that a strategy with limits can have live at once",
            low=64,
            high=4096,
            power_of_two=True,
        ),
    )
    bundle_timeout_ns: int = field(
        default=100_000,
        metadata=_about("longest time that a bundle stays open", low=1, high=INT64_MAX, unit="ns"),
    )
    seal: Seal = field(
        default="timeout",
        metadata=_about(
            "when a bundle that is not full is sealed",
            choices={
                "timeout": "at its timeout",
                "idle": "at its timeout, or earlier if there is no input",
            },
        ),
    )
    batch: int = field(
        default=256,
        metadata=_about("most items that a stage moves in one duty cycle", low=1, high=MAX_BATCH),
    )
    clock: ClockSource = field(
        default="auto",
        metadata=_about(
            "where time comes from",
            choices={
                "auto": "the CPU's counter if it can be trusted, else the kernel",
                "tsc": "the counter of x86-64",
                "cntvct": "the counter of aarch64",
                "kernel": "clock_gettime",
                "virtual": "a clock that the caller moves",
            },
        ),
    )
    huge_pages: HugePages = field(
        default="auto",
        metadata=_about(
            "which rings and books ask the kernel for huge pages",
            "The report says what the kernel granted.",
            choices={
                "auto": "blocks of 2 MiB or more",
                "always": "every block, rounded up to 2 MiB",
                "never": "none",
            },
        ),
    )
    publish: Publish = field(
        default="record",
        metadata=_about(
            "when readers of the book see a change",
            choices={
                "record": "after each record",
                "event": "after the last record of an event",
            },
        ),
    )

    def __post_init__(self) -> None:
        if self.writers is None:
            object.__setattr__(self, "writers", self.lanes)
        for name, setting in _SETTINGS.items():
            # These two depend on the lanes.
            if name not in ("placement", "cpus"):
                object.__setattr__(self, name, _checked(setting, getattr(self, name)))

        if self.lanes > 1 and self.writers is not None and self.writers < self.lanes:
            raise ConfigError(
                f"must be at least {self.lanes}, since lanes = {self.lanes} and each lane writes "
                "the same book",
                field="writers",
                value=self.writers,
            )

        object.__setattr__(self, "placement", self._checked_placement())
        object.__setattr__(self, "cpus", self._checked_cpus())
        if not self.pin and (self.cpus is not None or not isinstance(self.placement, str)):
            name = "placement" if self.cpus is None else "cpus"
            raise ConfigError(f"must be True, since {name} names CPUs", field="pin", value=False)

    @property
    def shares_book(self) -> bool:
        """bool: Whether several threads may write a book."""
        return self.writers is not None and self.writers > 1

    def _checked_placement(self) -> str | Mapping[str, int]:
        if not isinstance(self.placement, Mapping):
            setting = _SETTINGS["placement"]
            if not isinstance(self.placement, str) or self.placement not in setting.choices:
                raise ConfigError(
                    f"placement = {self.placement!r}: must be {setting.allowed}, or a mapping of "
                    "stage to CPU"
                )
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
            stage: _integer(f"placement[{stage!r}]", cpu, 0, INT32_MAX)
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
            _integer(f"cpus[{index}]", cpu, 0, INT32_MAX) for index, cpu in enumerate(self.cpus)
        )
        if not checked or len(set(checked)) < len(checked):
            raise ConfigError(
                "must name at least one CPU, each once", field="cpus", value=list(checked)
            )
        return checked

    @classmethod
    def settings(cls) -> Mapping[str, Setting]:
        """Return the definition of each setting, by name, in the order of the fields.

        Examples
        --------
        >>> PipelineConfig.settings()["batch"].allowed
        'an integer, 1 to 4096'
        """
        return _SETTINGS

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> PipelineConfig:
        """Build a config from the content of a TOML or JSON file.

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
                raise ConfigError(
                    f"not a setting of a pipeline; {suggestion(str(key), names)}", field=str(key)
                )
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


_SETTINGS = MappingProxyType(
    {
        each.name: replace(
            each.metadata["setting"], name=each.name, default=each.default, type=str(each.type)
        )
        for each in fields(PipelineConfig)
    }
)


def _described(setting: Setting) -> str:
    """Return a setting's entry in the docstring of `PipelineConfig`."""
    about = [f"{setting.help[0].upper()}{setting.help[1:]}."]
    about += [f"``{word}``: {meaning}." for word, meaning in setting.choices.items()]
    if setting.low is not None:
        unit = f", in {setting.unit}" if setting.unit else ""
        about.append(f"{setting.allowed[0].upper()}{setting.allowed[1:]}{unit}.")
    about.append(setting.notes)
    about.append(f"Default: {setting.default_text}.")
    text = wrap(
        " ".join(filter(None, about)), 96, initial_indent=" " * 8, subsequent_indent=" " * 8
    )
    return "\n".join([f"    {setting.name} : {setting.type}", *text])


# One text for each setting: the docstring is completed from it.
PipelineConfig.__doc__ = (PipelineConfig.__doc__ or "").replace(
    "    ----------\n",
    "    ----------\n" + "\n".join(map(_described, _SETTINGS.values())) + "\n",
    1,
)


def _checked(setting: Setting, value: Any) -> Any:
    """Return the value as the setting stores it; raise ConfigError if it cannot be used."""
    if value is None and setting.default is None:
        return None
    if setting.low is not None and setting.high is not None:
        number = _integer(setting.name, value, setting.low, setting.high)
        if setting.power_of_two and number & (number - 1):
            raise ConfigError(f"must be {setting.allowed}", field=setting.name, value=number)
        return number
    choices = setting.choices or (True, False)
    if not isinstance(value, str if setting.choices else bool) or value not in choices:
        none = f"; None: {setting.absent}" if setting.default is None else ""
        raise ConfigError(f"must be {setting.allowed}{none}", field=setting.name, value=value)
    return value


def _integer(name: str, value: Any, low: int, high: int) -> int:
    """Return a Python int for any integer except a bool, which `operator.index` would accept."""
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
