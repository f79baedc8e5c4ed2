"""PipelineConfig: the values that it accepts and refuses, and the messages."""

import copy
import doctest
import inspect
import json
import pickle
import tomllib
from dataclasses import FrozenInstanceError, fields
from typing import get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import refused
from velox import config as module
from velox.config import PipelineConfig, stage_names
from velox.errors import ConfigError

NUMBERS = [
    # (field, least, most)
    ("lanes", 1, 16),
    ("writers", 1, 2**31 - 1),
    ("levels", 64, 2**18),
    ("transaction_capacity", 2, 2**24),
    ("bundle_capacity", 2, 2**24),
    ("bundle_timeout_ns", 1, 2**63 - 1),
    ("batch", 1, 4096),
]
WORDS = {
    "idle": ["spin", "yield", "backoff"],
    "on_cross": ["count", "reject", "uncross", "match"],
    "on_full": ["block", "drop", None],
    "seal": ["timeout", "idle"],
    "clock": ["auto", "tsc", "cntvct", "kernel", "virtual"],
    "publish": ["record", "event"],
    "huge_pages": ["auto", "always", "never"],
    "placement": ["auto", "invoker", "shared", "paired", "dedicated"],
}
SOUND = [
    PipelineConfig(),
    PipelineConfig(placement="dedicated", cpus=(7, 3, 5, 1), idle="backoff", strict=True),
    PipelineConfig(placement={"ingress": 0, "orderbook": 0, "bundle": 1, "output": 1}),
    PipelineConfig(lanes=4, writers=5, on_full="drop", seal="idle", publish="event"),
]


def build(name, value):
    """A config with one field set; lanes bring the writers that they need."""
    return PipelineConfig(**{"writers": 16, name: value})


# Values


@pytest.mark.parametrize(("name", "least", "most"), NUMBERS)
def test_a_number_may_be_its_least_and_its_most(name, least, most):
    for number in (least, most):
        assert getattr(build(name, number), name) == number


@pytest.mark.parametrize(("name", "least", "most"), NUMBERS)
def test_a_number_out_of_range_is_refused_with_its_field_value_and_range(name, least, most):
    for number in (least - 1, most + 1, -1):
        with pytest.raises(ConfigError, match=rf"^{name} = {number}: must be .*{least} to {most}$"):
            build(name, number)


@pytest.mark.parametrize("name", [name for name, _, _ in NUMBERS])
@pytest.mark.parametrize("value", [True, 64.0, "64", (), [64], np.True_, np.float64(64)])
def test_what_is_no_integer_is_refused_as_a_number(name, value):
    with pytest.raises(ConfigError, match=rf"^{name} = .*: must be an integer"):
        build(name, value)


@pytest.mark.parametrize("name", ["levels", "transaction_capacity", "bundle_capacity"])
def test_a_capacity_between_two_powers_of_two_is_refused(name):
    with pytest.raises(ConfigError, match=rf"^{name} = 1000: must be a power of two"):
        build(name, 1000)


def test_a_numpy_integer_becomes_an_integer():
    config = PipelineConfig(
        batch=np.uint16(64), cpus=[np.int64(1)], levels=np.int32(128), placement="shared"
    )
    assert type(config.batch) is type(config.levels) is type(config.cpus[0]) is int
    assert PipelineConfig(placement={"ingress": np.int8(1)}).to_dict()["placement"] == {
        "ingress": 1
    }


@pytest.mark.parametrize(("name", "words"), WORDS.items())
def test_a_choice_takes_its_words_and_refuses_others_listing_them(name, words):
    for word in words:
        assert getattr(build(name, word), name) == word
    for wrong in ("SPIN", "", 1, True, b"auto", ["auto"]):
        with pytest.raises(ConfigError, match=rf"^{name} = .*: must be one of") as caught:
            build(name, wrong)
        assert all(repr(word) in str(caught.value) for word in words if word is not None)


@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_strict_is_true_or_false(value):
    with refused(ConfigError, field="strict"):
        PipelineConfig(strict=value)


def test_lanes_need_a_writer_each():
    with refused(ConfigError, field="writers", value=2):
        PipelineConfig(lanes=3, writers=2)
    assert PipelineConfig(lanes=3, writers=3).lanes == 3
    assert PipelineConfig(lanes=3).writers == 3


def test_several_writers_may_share_the_book_of_one_lane():
    assert PipelineConfig(writers=4).lanes == 1


# CPUs


@pytest.mark.parametrize("value", [[2, 3], (2, 3), range(2, 4)])
def test_cpus_may_come_as_any_sequence_and_keep_their_order(value):
    assert PipelineConfig(cpus=value).cpus == (2, 3)
    assert PipelineConfig(cpus=value[::-1]).cpus == (3, 2)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], r"cpus = \[\]: must name at least one CPU"),
        ([1, 2, 1], r"cpus = \[1, 2, 1\]: must name at least one CPU, each once"),
        ([0, -1], r"cpus\[1\] = -1: must be an integer"),
        ([True], r"cpus\[0\] = True: must be an integer"),
        (3, r"cpus = 3: must be a list"),
        ("0-3", r"cpus = '0-3': must be a list"),
        ({1, 2}, r"cpus = \{1, 2\}: must be a list"),
    ],
)
def test_a_list_of_cpus_that_is_none_is_refused(value, message):
    with pytest.raises(ConfigError, match=message):
        PipelineConfig(cpus=value)


def test_cpus_and_a_mapping_cannot_both_be_given():
    with refused(ConfigError, field="cpus"):
        PipelineConfig(placement={"ingress": 0}, cpus=(1,))


# Placement by hand


def test_stages_are_numbered_where_there_are_lanes():
    assert stage_names(1) == ("ingress", "orderbook", "bundle", "output")
    assert stage_names(16)[30:] == ("ingress15", "orderbook15", "bundle", "output")


def test_a_mapping_must_name_stages_that_exist():
    with pytest.raises(ConfigError, match="placement: names 'book', but with lanes = 1"):
        PipelineConfig(placement={"book": 0})
    with pytest.raises(ConfigError, match="placement: names 'ingress', but with lanes = 2"):
        PipelineConfig(placement={"ingress": 0}, lanes=2, writers=2)


def test_a_mapping_must_give_cpu_numbers():
    with pytest.raises(ConfigError, match=r"placement\['output'\] = 'last': must be an integer"):
        PipelineConfig(placement={"output": "last"})


def test_a_mapping_is_copied_and_cannot_be_edited():
    given_mapping = {"ingress": 0}
    config = PipelineConfig(placement=given_mapping)
    given_mapping["ingress"] = 9
    assert config.placement == {"ingress": 0}
    with pytest.raises(TypeError):
        config.placement["ingress"] = 9


# Round trips


@pytest.mark.parametrize("config", SOUND)
def test_a_config_survives_json(config):
    assert PipelineConfig.from_mapping(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("config", SOUND)
def test_a_config_survives_pickling_and_copying(config):
    assert pickle.loads(pickle.dumps(config)) == config
    assert copy.deepcopy(config) == config


@given(
    st.fixed_dictionaries(
        {},
        optional={
            **{name: st.sampled_from(words) for name, words in WORDS.items()},
            "batch": st.integers(1, 4096),
            "bundle_timeout_ns": st.integers(1, 2**63 - 1),
            "levels": st.integers(6, 18).map(lambda power: 1 << power),
            "strict": st.booleans(),
            "cpus": st.none() | st.lists(st.integers(0, 1023), min_size=1, unique=True),
        },
    )
)
def test_every_sound_mapping_makes_a_config_that_says_the_same(mapping):
    values = PipelineConfig.from_mapping(mapping).to_dict()
    assert {name: values[name] for name in mapping} == mapping
    assert list(values) == [each.name for each in fields(PipelineConfig)]


def test_a_toml_table_makes_a_config():
    table = tomllib.loads('lanes = 2\nwriters = 2\ncpus = [4, 5, 6]\nidle = "yield"\nstrict = true')
    assert PipelineConfig.from_mapping(table) == PipelineConfig(
        lanes=2, writers=2, cpus=(4, 5, 6), idle="yield", strict=True
    )


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("lane", "did you mean 'lanes'"),
        ("bundle_timeout", "did you mean 'bundle_timeout_ns'"),
        ("Idle", "did you mean 'idle'"),
        ("zzz", "the keys are placement, cpus, "),
        (7, "the keys are "),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_one(key, hint):
    with pytest.raises(ConfigError, match=f"^{key}: not a setting of a pipeline; {hint}"):
        PipelineConfig.from_mapping({key: 1})


def test_settings_must_be_a_mapping():
    with pytest.raises(ConfigError, match="must be a mapping"):
        PipelineConfig.from_mapping([("lanes", 1)])


def test_a_config_cannot_be_edited():
    with pytest.raises(FrozenInstanceError):
        PipelineConfig().batch = 1


def test_fields_are_given_by_name_alone():
    with pytest.raises(TypeError):
        PipelineConfig("shared")


def test_every_field_is_documented():
    for each in fields(PipelineConfig):
        assert f"\n{each.name} : " in inspect.getdoc(PipelineConfig)


def test_the_words_of_a_choice_are_those_of_its_type():
    annotations = get_type_hints(PipelineConfig)
    for name, setting in PipelineConfig.settings().items():
        if setting.choices and name != "placement":
            words = [get_args(each) or [each] for each in get_args(annotations[name])]
            named = [word for group in words for word in group if word is not type(None)]
            assert list(setting.choices) == named
    assert tuple(PipelineConfig.settings()["placement"].choices) == get_args(module.Placement)


def test_a_setting_says_what_its_check_says():
    for name, setting in PipelineConfig.settings().items():
        if name != "cpus":
            with pytest.raises(ConfigError) as caught:
                build(name, object())
            expected = "an integer" if setting.low is not None else setting.allowed
            assert f": must be {expected}" in str(caught.value)


def test_the_examples_of_the_module_run():
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0
