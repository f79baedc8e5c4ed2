"""Which threads run which stages, on which CPUs.

`plan` is a pure function of the settings and of the usable CPUs. It starts no thread and reads no
file, so a test can ask it about other machines. ``docs/reference/placement.md`` says when to choose
what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from velox.config import Idle, PipelineConfig, stage_names
from velox.errors import ConfigError
from velox.runtime.hardware import UsableCpus, format_cpus

__all__ = ["Plan", "RunnerPlan", "counted", "plan"]


@dataclass(frozen=True, slots=True)
class RunnerPlan:
    """One thread and what it runs.

    Attributes
    ----------
    name : str
        The thread's name, at most 15 bytes. It is made from its first stage's.
    stages : tuple of str
        Its stages, in pipeline order.
    cpu : int or None
        The CPU to pin it to; None leaves it to the scheduler.
    """

    name: str
    stages: tuple[str, ...]
    cpu: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The threads of one pipeline.

    Attributes
    ----------
    placement : str
        ``"invoker"``, ``"shared"``, ``"paired"``, ``"dedicated"``, or ``"explicit"`` where the
        settings name a CPU for each stage; never ``"auto"``.
    runners : tuple of RunnerPlan
        The threads, in pipeline order.
    idle : {"spin", "yield", "backoff"}
        What a runner does without work. It differs from the setting if that would have
        oversubscribed the CPUs.
    why : str
        A text that explains the placement.
    warnings : tuple of str
        Faults of the setup that make latencies unreliable, most serious first.
    oversubscribed : bool
        Whether there are more runners than CPUs to run them.
    """

    placement: str
    runners: tuple[RunnerPlan, ...]
    idle: Idle
    why: str
    warnings: tuple[str, ...]
    oversubscribed: bool

    def without_pins(self, refusals: Mapping[str, str]) -> Plan:
        """Return the plan that is left once the system has refused to pin some runners.

        Parameters
        ----------
        refusals : mapping of str to str
            By the runner's name: what the system said.
        """
        runners = tuple(
            replace(each, cpu=None) if each.name in refusals else each for each in self.runners
        )
        warnings = tuple(
            f"{each.name} cannot be pinned to CPU {each.cpu} ({refusals[each.name]}): the "
            "scheduler places it, so expect stalls; grant the process the right, or say so with "
            "pin=False (--no-pin)"
            for each in self.runners
            if each.name in refusals
        )
        return replace(self, runners=runners, warnings=self.warnings + warnings)

    def to_dict(self) -> dict[str, Any]:
        """Return the plan, ready for JSON."""
        return {
            "placement": self.placement,
            "runners": [
                {"name": each.name, "stages": list(each.stages), "cpu": each.cpu}
                for each in self.runners
            ],
            "idle": self.idle,
            "why": self.why,
            "warnings": list(self.warnings),
            "oversubscribed": self.oversubscribed,
        }

    def __str__(self) -> str:
        threads = [
            f"{each.name} ({', '.join(each.stages)}) on "
            + ("any CPU" if each.cpu is None else f"CPU {each.cpu}")
            for each in self.runners
        ]
        return f"{self.placement}, idle {self.idle}: {'; '.join(threads) or 'no threads'}"


def plan(
    config: PipelineConfig, usable: UsableCpus, *, stages_present: Iterable[str] | None = None
) -> Plan:
    """Decide which threads run which stages, and on which CPUs.

    Parameters
    ----------
    config : PipelineConfig
        `placement`, `cpus`, `idle`, `strict` and `lanes` are read.
    usable : UsableCpus
        What the process may use, from `velox.runtime.hardware.usable_cpus`.
    stages_present : iterable of str, optional
        The stages that a runner must run. An ingress is absent where Python pushes, the output
        where Python pulls; the Python thread then needs a core of its own.

    Returns
    -------
    Plan

    Raises
    ------
    ConfigError
        A CPU is not among those allowed, a stage is unknown or has no CPU, or, with
        ``strict=True``, runners would spin on fewer CPUs than there are runners.

    Examples
    --------
    >>> two = UsableCpus(allowed=(4, 5), quota=None, count=2, why="2 usable")
    >>> print(plan(PipelineConfig(), two))
    shared, idle spin: velox-pipeline (ingress, orderbook, bundle, output) on CPU 5
    """
    stages = _present(config, stages_present)
    named = _named_cpus(config)
    outside = [cpu for cpu in named if cpu not in usable.allowed]
    if outside:
        field = "placement" if config.cpus is None else "cpus"
        raise ConfigError(
            f"names CPU {outside[0]}; this process may use {format_cpus(usable.allowed)}",
            field=field,
        )

    placement, why = _resolve(config, usable)
    groups = _group(placement, config, stages)
    cpus = _pin(placement, config, usable, groups)
    runners = tuple(
        RunnerPlan(_runner_name(group, stages), group, cpu)
        for group, cpu in zip(groups, cpus, strict=True)
    )

    # Two runners pinned to one CPU share it, even if other CPUs are idle.
    room = min(usable.count, len(named)) if named and usable.can_pin else usable.count
    oversubscribed = len(runners) > room
    idle, warnings = _guard(config, usable, len(runners), room, stages)
    warnings += _ignored(placement, config, usable, stages)
    return Plan(placement, runners, idle, why, tuple(warnings), oversubscribed)


def _present(config: PipelineConfig, stages_present: Iterable[str] | None) -> tuple[str, ...]:
    """Return the stages to run, in pipeline order."""
    every = stage_names(config.lanes)
    present = set(every) if stages_present is None else set(stages_present)
    unknown = sorted(present.difference(every))
    if unknown:
        raise ConfigError(
            f"names {unknown[0]!r}; the stages are {', '.join(every)}", field="stages_present"
        )
    for stage in every:
        if stage not in present and stage.startswith(("orderbook", "bundle")):
            raise ConfigError(
                f"lacks {stage!r}, which only a runner can run", field="stages_present"
            )
    return tuple(stage for stage in every if stage in present)


def _named_cpus(config: PipelineConfig) -> tuple[int, ...]:
    """Return the CPUs that the settings name, each once."""
    if not isinstance(config.placement, str):
        return tuple(dict.fromkeys(config.placement.values()))
    return config.cpus or ()


def _resolve(config: PipelineConfig, usable: UsableCpus) -> tuple[str, str]:
    """Choose a placement for the setting `placement`, and say why."""
    if not isinstance(config.placement, str):
        return "explicit", f"the CPU of each stage was given; {usable.why}"
    if config.placement != "auto":
        return config.placement, f"placement {config.placement!r} was requested; {usable.why}"

    return _automatic(config, usable)


def _automatic(config: PipelineConfig, usable: UsableCpus) -> tuple[str, str]:
    """Choose the widest placement that leaves a CPU to Python."""
    count, found = usable.count, usable.why
    if config.cpus is not None:
        # Python may use the CPUs that are not named, if there are any.
        left = 1 if set(usable.allowed).difference(config.cpus) else 0
        count = min(count, len(config.cpus) + left)
        found = f"{found}; runners were given CPUs {format_cpus(config.cpus)}"
    if config.lanes > 1:
        needed = config.lanes + 2
        if count >= needed:
            return "paired", f"auto: {config.lanes} lanes, bundles and Python fit; {found}"
        return "shared", f"auto: a thread for each lane needs {needed} usable CPUs; {found}"
    if count >= 5:
        return "dedicated", f"auto: a CPU for each stage and one for Python; {found}"
    if count == 4:
        return "paired", f"auto: two threads leave CPUs for Python and the system; {found}"
    return "shared", f"auto: on 3 CPUs or fewer one thread is fastest; {found}"


def _group(
    placement: str, config: PipelineConfig, stages: tuple[str, ...]
) -> list[tuple[str, ...]]:
    """Divide the stages among runners, both in pipeline order."""
    if placement == "invoker":
        return []
    if placement == "shared":
        return [stages]
    if placement == "dedicated":
        return [(stage,) for stage in stages]

    groups: dict[object, list[str]] = {}
    for stage in stages:
        groups.setdefault(_group_key(config, stage), []).append(stage)
    return [tuple(group) for group in groups.values()]


def _group_key(config: PipelineConfig, stage: str) -> object:
    """The key of a stage. Stages with the same key share a runner, if paired or placed by hand."""
    if isinstance(config.placement, str):
        # ingress3 and orderbook3 form lane 3; without lanes, names have no number
        head = stage.removeprefix("ingress").removeprefix("orderbook")
        return "tail" if stage in ("bundle", "output") else head
    if stage not in config.placement:
        raise ConfigError(
            f"names no CPU for {stage!r}", field="placement", value=dict(config.placement)
        )
    return config.placement[stage]


def _pin(
    placement: str, config: PipelineConfig, usable: UsableCpus, groups: list[tuple[str, ...]]
) -> list[int | None]:
    """Choose a CPU for each group of stages."""
    if not (usable.can_pin and config.pin):
        return [None] * len(groups)
    if not isinstance(config.placement, str):
        return [config.placement[group[0]] for group in groups]
    if config.cpus is not None:
        return [config.cpus[index % len(config.cpus)] for index in range(len(groups))]
    if len(groups) > len(usable.order):
        # Pins would put several runners on one CPU while another is idle.
        return [None] * len(groups)
    # Python gets the first CPU if there are others.
    order = usable.order[1:] + usable.order[:1]
    return list(order[: len(groups)])


def _runner_name(group: tuple[str, ...], stages: tuple[str, ...]) -> str:
    """Name a thread in the 15 bytes that Linux keeps: ``velox-ingress15`` is the longest."""
    return "velox-pipeline" if group == stages else "velox-" + group[0].replace("order", "")


def _guard(
    config: PipelineConfig,
    usable: UsableCpus,
    runners: int,
    room: int,
    stages: tuple[str, ...],
) -> tuple[Idle, list[str]]:
    """Prevent spinning runners from sharing a core.

    If a runner spins on the core of the runner that it waits for, the other stops for a whole time
    slice of the scheduler. That takes milliseconds; a hand-off takes a fraction of a microsecond.
    """
    if config.idle != "spin" or not runners:
        return config.idle, []
    if runners > room:
        problem = f"{counted(runners, 'runner')} would spin on {counted(room, 'usable CPU')}"
        remedy = "choose placement 'shared' or grant the process more CPUs"
        if config.strict:
            raise ConfigError(f"{problem}; {remedy}, or unset strict", field="idle", value="spin")
        return "yield", [f"{problem}: idle 'spin' becomes 'yield'; {remedy}"]
    if runners >= usable.count:
        party = (
            ", which here pushes or pulls transactions itself"
            if len(stages) < len(stage_names(config.lanes))
            else ""
        )
        leave = "leaves" if runners == 1 else "leave"
        return "spin", [
            f"{counted(runners, 'spinning runner')} on {counted(usable.count, 'usable CPU')} "
            f"{leave} no core for Python{party}: expect stalls of a time slice; choose fewer "
            f"runners, idle 'yield', or grant the process more CPUs"
        ]
    return "spin", []


def _ignored(
    placement: str, config: PipelineConfig, usable: UsableCpus, stages: tuple[str, ...]
) -> list[str]:
    """Name each setting that has no effect."""
    notes = []
    if placement == "invoker" and config.cpus is not None:
        notes.append(f"cpus = {list(config.cpus)}: placement 'invoker' starts no thread to pin")
    if placement == "invoker" and config.idle != "spin":
        notes.append(
            f"idle = {config.idle!r}: placement 'invoker' starts no thread that could idle"
        )
    if not usable.can_pin and placement != "invoker":
        notes.append("this system cannot pin threads to CPUs: the scheduler places the runners")
    if not isinstance(config.placement, str):
        notes += [
            f"placement[{stage!r}] = {cpu}: Python itself does this stage, so no runner is pinned"
            for stage, cpu in config.placement.items()
            if stage not in stages
        ]
    return notes


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, in the plural unless it is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
