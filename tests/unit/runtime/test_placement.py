"""Placement: which threads run on which CPUs, and the warnings if they do not fit."""

import doctest
import json
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.config import PipelineConfig, stage_names
from velox.errors import ConfigError
from velox.runtime import placement as module
from velox.runtime.hardware import UsableCpus
from velox.runtime.placement import RunnerPlan, plan

ALL = ("ingress", "orderbook", "bundle", "output")
PUSHED_AND_PULLED = ("orderbook", "bundle")


def cpus(count, *, allowed=None, **more):
    """A process that may use `count` CPUs, all those allowed unless a quota says less."""
    allowed = tuple(range(count)) if allowed is None else allowed
    quota = None if count == len(allowed) else float(count)
    return UsableCpus(allowed, quota, count, f"{count} usable", **more)


def config(placement="auto", *, lanes=1, **settings):
    return PipelineConfig(placement=placement, lanes=lanes, writers=lanes, **settings)


def stages(made):
    return [runner.stages for runner in made.runners]


def pins(made):
    return [runner.cpu for runner in made.runners]


# Who runs what


def test_an_invoker_starts_no_thread():
    made = plan(config("invoker"), cpus(1))
    assert made.runners == ()
    assert made.warnings == ()
    assert not made.oversubscribed


def test_shared_runs_every_stage_on_one_thread_and_leaves_the_first_cpu_to_python():
    made = plan(config("shared"), cpus(2))
    assert made.runners == (RunnerPlan("velox-pipeline", ALL, 1),)


def test_paired_splits_behind_the_book():
    made = plan(config("paired"), cpus(4))
    assert made.runners == (
        RunnerPlan("velox-ingress", ("ingress", "orderbook"), 1),
        RunnerPlan("velox-bundle", ("bundle", "output"), 2),
    )


def test_dedicated_gives_each_stage_a_thread():
    made = plan(config("dedicated"), cpus(5))
    assert [runner.name for runner in made.runners] == [
        "velox-ingress",
        "velox-book",
        "velox-bundle",
        "velox-output",
    ]
    assert stages(made) == [(stage,) for stage in ALL]
    assert pins(made) == [1, 2, 3, 4]


def test_paired_lanes_have_a_thread_each_and_one_for_the_bundles():
    made = plan(config("paired", lanes=2), cpus(8))
    assert made.runners == (
        RunnerPlan("velox-ingress0", ("ingress0", "orderbook0"), 1),
        RunnerPlan("velox-ingress1", ("ingress1", "orderbook1"), 2),
        RunnerPlan("velox-bundle", ("bundle", "output"), 3),
    )


def test_dedicated_lanes_have_a_thread_for_each_stage():
    made = plan(config("dedicated", lanes=3), cpus(16))
    assert stages(made) == [(stage,) for stage in stage_names(3)]


def test_a_mapping_makes_a_runner_for_each_cpu_that_it_names():
    mapping = {"output": 3, "ingress": 2, "bundle": 3, "orderbook": 0}
    made = plan(config(mapping), cpus(4))
    assert made.placement == "explicit"
    assert made.runners == (
        RunnerPlan("velox-ingress", ("ingress",), 2),
        RunnerPlan("velox-book", ("orderbook",), 0),
        RunnerPlan("velox-bundle", ("bundle", "output"), 3),
    )


def test_a_mapping_may_put_stages_that_are_no_neighbours_on_one_cpu():
    mapping = {"ingress": 1, "orderbook": 2, "bundle": 2, "output": 1}
    made = plan(config(mapping), cpus(3))
    assert stages(made) == [("ingress", "output"), ("orderbook", "bundle")]


def test_a_mapping_that_names_one_cpu_makes_one_runner():
    made = plan(config(dict.fromkeys(ALL, 1)), cpus(2))
    assert made.runners == (RunnerPlan("velox-pipeline", ALL, 1),)


@pytest.mark.parametrize(
    ("placement", "expected"),
    [
        ("shared", [PUSHED_AND_PULLED]),
        ("paired", [("orderbook",), ("bundle",)]),
        ("dedicated", [("orderbook",), ("bundle",)]),
    ],
)
def test_a_stage_that_python_does_has_no_runner(placement, expected):
    made = plan(config(placement), cpus(8), stages_present=PUSHED_AND_PULLED)
    assert stages(made) == expected


def test_stages_run_in_pipeline_order_whatever_order_they_are_named_in():
    made = plan(config("shared"), cpus(2), stages_present=reversed(ALL))
    assert stages(made) == [ALL]


@pytest.mark.parametrize("missing", PUSHED_AND_PULLED)
def test_python_cannot_stand_in_for_the_book_or_the_bundle(missing):
    present = [stage for stage in ALL if stage != missing]
    with pytest.raises(ConfigError, match=f"stages_present: lacks '{missing}'"):
        plan(config(), cpus(2), stages_present=present)


def test_an_unknown_stage_is_refused():
    with pytest.raises(ConfigError, match="stages_present: names 'ingress0'"):
        plan(config(), cpus(2), stages_present=("ingress0", "orderbook", "bundle"))


def test_a_mapping_must_name_a_cpu_for_each_stage_that_runs():
    with pytest.raises(ConfigError, match="names no CPU for 'output'"):
        plan(config({"ingress": 0, "orderbook": 0, "bundle": 0}), cpus(2))


# What auto chooses


@pytest.mark.parametrize(
    ("count", "placement"),
    [
        (1, "shared"),
        (2, "shared"),
        (3, "shared"),
        (4, "paired"),
        (5, "dedicated"),
        (64, "dedicated"),
    ],
)
def test_auto_takes_the_threads_that_fit_beside_python(count, placement):
    made = plan(config(), cpus(count))
    assert made.placement == placement
    assert made.why.startswith("auto: ")
    assert f"{count} usable" in made.why


@pytest.mark.parametrize(
    ("lanes", "count", "placement"),
    [(2, 3, "shared"), (2, 4, "paired"), (6, 7, "shared"), (6, 8, "paired"), (16, 18, "paired")],
)
def test_auto_gives_lanes_threads_when_they_and_bundles_and_python_fit(lanes, count, placement):
    assert plan(config(lanes=lanes), cpus(count)).placement == placement


def test_auto_believes_the_quota_rather_than_the_mask():
    assert plan(config(), cpus(2, allowed=tuple(range(64)))).placement == "shared"


@pytest.mark.parametrize(
    ("named", "placement"),
    [((5,), "shared"), ((5, 6, 7), "paired"), ((4, 5, 6, 7), "dedicated")],
)
def test_auto_keeps_to_the_cpus_it_was_given_and_python_has_the_others(named, placement):
    made = plan(config(cpus=named), cpus(8))
    assert made.placement == placement
    assert pins(made) == list(named[: len(made.runners)])
    assert made.warnings == ()


@given(st.integers(1, 64), st.integers(1, 16), st.booleans())
def test_auto_never_oversubscribes(count, lanes, from_python):
    every = stage_names(lanes)
    present = every[1:-1] if from_python else every
    made = plan(config(lanes=lanes, strict=True), cpus(count), stages_present=present)
    assert not made.oversubscribed
    assert made.idle == "spin"
    assert bool(made.warnings) == (count == 1)


def test_a_placement_that_was_asked_for_says_so():
    assert plan(config("paired"), cpus(8)).why == "placement 'paired' was requested; 8 usable"


# Which CPUs


def test_pins_are_members_of_the_allowed_set():
    assert pins(plan(config("paired"), cpus(3, allowed=(17, 40, 41)))) == [40, 41]


def test_pins_follow_the_order_of_the_cores_and_siblings_come_last():
    usable = cpus(6, order=(0, 2, 4, 1, 3, 5))
    assert pins(plan(config("dedicated"), usable)) == [2, 4, 1, 3]


def test_the_first_cpu_is_taken_last():
    assert pins(plan(config("paired"), cpus(2))) == [1, 0]
    assert pins(plan(config("shared"), cpus(1, allowed=(9,)))) == [9]


def test_given_cpus_are_taken_in_the_order_given():
    made = plan(config("dedicated", cpus=(6, 2, 4, 0)), cpus(8))
    assert pins(made) == [6, 2, 4, 0]


@pytest.mark.parametrize(
    "settings",
    [
        {"placement": "shared", "cpus": (8,)},
        {"placement": "invoker", "cpus": (0, 8)},
        {"placement": {"ingress": 4, "orderbook": 8, "bundle": 4, "output": 4}},
    ],
)
def test_a_cpu_outside_the_allowed_set_is_refused_naming_both(settings):
    field = "cpus" if "cpus" in settings else "placement"
    why = f"^{field}: names CPU 8; this process may use 0-5,7$"
    with pytest.raises(ConfigError, match=why):
        plan(config(**settings), cpus(7, allowed=(0, 1, 2, 3, 4, 5, 7)))


def test_runners_beyond_the_allowed_cpus_are_left_to_the_scheduler():
    assert pins(plan(config("dedicated"), cpus(2))) == [None] * 4


def test_runners_beyond_the_given_cpus_go_round_them():
    made = plan(config("dedicated", cpus=(5, 3)), cpus(8))
    assert pins(made) == [5, 3, 5, 3]


def test_a_system_that_cannot_pin_says_so_and_keeps_the_groups():
    usable = cpus(8, can_pin=False)
    for settings in ({"placement": "paired"}, {"placement": "paired", "cpus": (3, 4)}):
        made = plan(config(**settings), usable)
        assert stages(made) == [("ingress", "orderbook"), ("bundle", "output")]
        assert pins(made) == [None, None]
        assert made.warnings == (
            "this system cannot pin threads to CPUs: the scheduler places the runners",
        )


def test_an_invoker_has_nothing_to_pin_and_says_so():
    assert plan(config("invoker", cpus=(0,)), cpus(2)).warnings == (
        "cpus = [0]: placement 'invoker' starts no thread to pin",
    )
    assert plan(config("invoker", idle="yield"), cpus(2)).warnings == (
        "idle = 'yield': placement 'invoker' starts no thread that could idle",
    )


def test_a_cpu_for_a_stage_that_python_does_is_named_as_unused():
    mapping = {"ingress": 3, "orderbook": 1, "bundle": 2}
    made = plan(config(mapping), cpus(4), stages_present=PUSHED_AND_PULLED)
    assert pins(made) == [1, 2]
    assert len(made.warnings) == 1
    assert made.warnings[0].startswith("placement['ingress'] = 3: Python itself does this stage")


# Too many runners


def test_more_spinning_runners_than_cpus_yield_and_say_both_numbers():
    made = plan(config("dedicated"), cpus(2))
    assert made.oversubscribed
    assert made.idle == "yield"
    assert made.warnings == (
        "4 runners would spin on 2 usable CPUs: idle 'spin' becomes 'yield'; choose placement "
        "'shared' or grant the process more CPUs",
    )


def test_strict_refuses_instead_of_yielding():
    with pytest.raises(ConfigError, match="4 runners would spin on 3 usable CPUs"):
        plan(config("dedicated", strict=True), cpus(3))


@pytest.mark.parametrize("idle", ["yield", "backoff"])
def test_runners_that_do_not_spin_may_be_as_many_as_they_like(idle):
    made = plan(config("dedicated", idle=idle, strict=True), cpus(1))
    assert made.idle == idle
    assert made.oversubscribed
    assert made.warnings == ()


def test_a_quota_oversubscribes_as_a_mask_does():
    made = plan(config("dedicated"), cpus(2, allowed=tuple(range(64))))
    assert made.oversubscribed
    assert made.idle == "yield"
    assert pins(made) == [1, 2, 3, 4]


def test_runners_that_share_given_cpus_oversubscribe_them():
    made = plan(config("dedicated", cpus=(5, 3)), cpus(8))
    assert made.oversubscribed
    assert made.idle == "yield"
    assert "4 runners would spin on 2 usable CPUs" in made.warnings[0]


def test_lanes_on_too_few_cpus_yield():
    made = plan(config("paired", lanes=4), cpus(4))
    assert made.idle == "yield"
    assert "5 runners would spin on 4 usable CPUs" in made.warnings[0]


def test_runners_that_leave_no_core_for_python_spin_but_warn():
    made = plan(config("dedicated", strict=True), cpus(4))
    assert not made.oversubscribed
    assert made.idle == "spin"
    assert len(made.warnings) == 1
    assert made.warnings[0].startswith(
        "4 spinning runners on 4 usable CPUs leave no core for Python: "
    )


def test_the_warning_says_when_python_is_a_party():
    made = plan(config("paired"), cpus(2), stages_present=PUSHED_AND_PULLED)
    assert "for Python, which here pushes or pulls transactions itself: " in made.warnings[0]


def test_one_core_alone_makes_a_shared_runner_warn():
    made = plan(config("shared"), cpus(1))
    assert made.idle == "spin"
    assert made.warnings[0].startswith(
        "1 spinning runner on 1 usable CPU leaves no core for Python: "
    )


# Whatever is asked


@st.composite
def questions(draw):
    """Any settings on any machine that can run them, some stages with Python."""
    lanes = draw(st.sampled_from([1, 1, 1, 2, 3, 16]))
    every = stage_names(lanes)
    allowed = tuple(sorted(draw(st.sets(st.integers(0, 255), min_size=1, max_size=40))))
    count = draw(st.integers(1, len(allowed)))
    usable = cpus(
        count,
        allowed=allowed,
        order=tuple(draw(st.permutations(allowed))),
        can_pin=draw(st.booleans()),
    )
    settings = {"idle": draw(st.sampled_from(["spin", "yield", "backoff"]))}
    member = st.sampled_from(allowed)
    if draw(st.booleans()):
        placement = draw(st.fixed_dictionaries(dict.fromkeys(every, member)))
    else:
        placement = draw(st.sampled_from(["auto", "invoker", "shared", "paired", "dedicated"]))
        settings["cpus"] = draw(st.none() | st.lists(member, min_size=1, unique=True).map(tuple))
    by_python = draw(st.sets(st.sampled_from([every[0], every[-1]])))
    present = tuple(stage for stage in every if stage not in by_python)
    return config(placement, lanes=lanes, **settings), usable, present


@given(questions())
def test_every_plan_runs_each_stage_once_on_allowed_cpus_and_never_spins_oversubscribed(question):
    settings, usable, present = question
    made = plan(settings, usable, stages_present=present)

    run = list(chain.from_iterable(stages(made)))
    assert sorted(run) == ([] if made.placement == "invoker" else sorted(present))
    order = {stage: index for index, stage in enumerate(stage_names(settings.lanes))}
    for runner in made.runners:
        assert list(runner.stages) == sorted(runner.stages, key=order.__getitem__)
        assert len(runner.name.encode()) <= 15
        assert runner.cpu is None or runner.cpu in usable.allowed
    assert len({runner.name for runner in made.runners}) == len(made.runners)

    pinned = [runner.cpu for runner in made.runners if runner.cpu is not None]
    stacked = len(set(pinned)) < len(pinned) or len(made.runners) > usable.count
    assert made.oversubscribed == stacked
    assert not (made.oversubscribed and made.idle == "spin")
    if made.idle != settings.idle:
        assert (settings.idle, made.idle) == ("spin", "yield")
        assert made.warnings
    assert made.placement in ("invoker", "shared", "paired", "dedicated", "explicit")


# Words


def test_a_plan_reads_as_one_line():
    assert str(plan(config("paired"), cpus(2))) == (
        "paired, idle spin: velox-ingress (ingress, orderbook) on CPU 1; "
        "velox-bundle (bundle, output) on CPU 0"
    )
    assert str(plan(config("invoker"), cpus(2))) == "invoker, idle spin: no threads"
    assert str(plan(config("dedicated"), cpus(1))).endswith("velox-output (output) on any CPU")


def test_a_plan_becomes_json():
    values = plan(config("shared"), cpus(2)).to_dict()
    assert json.loads(json.dumps(values)) == values
    assert values == {
        "placement": "shared",
        "runners": [{"name": "velox-pipeline", "stages": list(ALL), "cpu": 1}],
        "idle": "spin",
        "why": "placement 'shared' was requested; 2 usable",
        "warnings": [],
        "oversubscribed": False,
    }


# Documentation


def test_the_examples_of_the_module_run():
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
