"""Every configuration that is explored, and how many complete executions it has.

Families of small ones, not one large one: each is there for something that the others miss, which
``--audit`` and ``--mutants`` show.
"""

from __future__ import annotations

from collections.abc import Sequence

from .checker import Configuration

Step = tuple[str, int, int]  # kind, tick, quantity


def model(
    name: str, configuration: str, *, spurious: int = 1, patience: int = 0, **parameters: object
) -> Configuration:
    return Configuration(name, configuration, parameters, spurious=spurious, patience=patience)


def ring(name: str, record: str = "transactions", **parameters: object) -> Configuration:
    return model("ring", name, record=record, **parameters)


def book(
    name: str,
    *writers: Sequence[Step],
    tries: int = 16,
    spurious: int = 1,
    **parameters: object,
) -> Configuration:
    """A book of 32 levels, which has one word of bitmap, where nothing else is said.

    Of 16 tries a clean-up makes 2. So many are more than all the others together can spoil.
    """
    return model("shared_book", name, writers=writers, tries=tries, spurious=spurious,
                 never_late=tries >= 16, **parameters)  # fmt: skip


FILL, FILL_MORE, FILL_NEXT, FILL_FAR = ("add", 1, 2), ("add", 1, 3), ("add", 2, 3), ("add", 40, 3)
EMPTY, EMPTY_MORE, EMPTY_NEXT = ("cancel", 1, 2), ("cancel", 1, 3), ("cancel", 2, 3)

# For the lanes: kind, level, size, and whether it must be refused.
ADD, ADD_MORE, ADD_NEXT = ("add", 1, 2, False), ("add", 1, 3, False), ("add", 2, 3, False)
CANCEL, TOO_MUCH = ("cancel", 1, 2, False), ("cancel", 1, 9, True)

CONFIGURATIONS = [
    ring("one slot", capacity=1, items=4),
    ring("two slots", capacity=2, items=5),
    ring("two slots, wrap at 2^64", capacity=2, items=3, first=-2),
    ring("four slots, batches", capacity=4, items=7, batch=3),
    ring("in place, one slot", capacity=1, items=4, in_place=True),
    ring("in place, batches", capacity=4, items=7, batch=3, in_place=True),
    ring("in place, wrap at 2^64", capacity=2, items=4, in_place=True, first=-2),
    ring("watched", capacity=4, items=2, watched=True),
    ring("bundles", "bundles", capacity=2, items=3, batch=2),
    ring("bundles in place", "bundles", capacity=2, items=4, batch=2, in_place=True),
    ring("bundles watched", "bundles", capacity=4, items=2, watched=True),
    ring("reports", "reports", capacity=2, items=3, batch=2),
    ring("reports in place", "reports", capacity=2, items=4, batch=2, in_place=True),
    ring("reports watched", "reports", capacity=4, items=2, watched=True),
    model("gate", "limits swapped", swaps=2, batches=3),
    model("gate", "limits swapped more often", swaps=3, batches=2),
    model("gate", "killed by two", killers=2),
    model("gate", "killed and armed", killers=1, arms=True),
    model("gate", "killed by two and armed", killers=2, arms=True),
    model("pipeline", "drained", items=3),
    model("pipeline", "sealed at the end", items=3, seal_when_idle=False),
    model("pipeline", "stopped at any time", items=3, stopped=True),
    model("pipeline", "timed", items=3, seal_when_idle=False, timed=True),
    model("pipeline", "timed, with no end", items=2, seal_when_idle=False, stays_open=True),
    model("pipeline", "two lanes", items=2, lanes=2),
    model("histogram", "steady", values=[5, 9, 7, 6, 7, 6], before=2),
    model("histogram", "impatient", values=[5, 9, 7, 6, 7], before=2, patience=1),
    model("histogram", "two snapshots", values=[5, 5, 5], before=1, snapshots=2),
    model("histogram", "extremes", values=[5, 9, 3, 4], before=1),
    model("histogram", "saturated", values=[5, 100]),
    model("histogram", "many at once", values=[5, 6], times=[3, 2]),
    model("histogram", "added", values=[5, 7], times=[0, 0]),
    model("histogram", "after one given up", values=[5, 9, 9, 5, 9, 9], before=2, given_up=True),
    model("clock", "driven", steps=3),
    model("top", "one reader", versions=3, readers=1, reads=2),
    model("top", "two readers", versions=2, readers=2, reads=1),
    model("mailbox", "one reader", readers=1, reads=2, extra=2),
    model("mailbox", "two rows", readers=1, reads=1, extra=2, rows=2),
    model("mailbox", "two readers", readers=2, reads=1, extra=1),
    model("book", "tops of a window that moves", events=2, tops=2),
    model("book", "depths of a window that moves", events=2, depths=1),
    model("book", "tops and depths", events=1, tops=1, depths=1),
    model("book", "two writers", events=1, writers=2),
    model("book", "two writers, and depths", events=1, writers=2, depths=1),
    model("bell", "one bundle", items=1),
    model("bell", "two bundles, one slot", items=2, capacity=1),
    model("bell", "asked late", items=1, polls=1),
    model("bell", "two bundles, then the end", items=2, capacity=1, ends_empty=True),
    model("lanes", "one level", lanes=[[ADD, CANCEL], [ADD_MORE]], tries=16,
          spurious=0),
    model("lanes", "one level, timeouts", lanes=[[ADD], [ADD_MORE]], tries=1),
    model("lanes", "two levels, and an underflow", lanes=[[ADD, TOO_MUCH], [ADD_NEXT]], tries=16),
    model("strategy", "one slot", made=[1, 0, 1, 1], capacity=1),
    model("strategy", "two slots", made=[1, 2, -1, 0, 1], capacity=2),
    model("strategy", "two slots, wrap at 2^64", made=[2, 1, 2], capacity=2, first=-3),
    model("strategy", "four slots", made=[1, 3, 0, 2], capacity=4),
    model("feedback", "one slot", records=1, reports=2, capacity=1, report_capacity=1),
    model("feedback", "two slots", records=1, reports=3, capacity=2, report_capacity=2),
    model("feedback", "wrap at 2^64", records=1, reports=3, capacity=2, report_capacity=2,
          first=-2),
    model("feedback", "after the end", records=2, reports=2, capacity=2, report_capacity=2,
          closes=False),
    book("two adds", [FILL], [FILL_MORE]),
    book("add, and fill and empty", [FILL], [FILL_MORE, EMPTY_MORE]),
    book("two fill and empty", [FILL, EMPTY], [FILL_MORE, EMPTY_MORE]),
    book("three add", [FILL], [FILL_MORE], [("add", 1, 5)], spurious=0),
    book("three, one empties", [FILL], [FILL_MORE, EMPTY_MORE], [FILL_NEXT], spurious=0),
    book("neighbours", [FILL, EMPTY], [FILL_NEXT], tries=24, tidy=True),
    book("neighbours under a summary", [FILL, EMPTY], [FILL_NEXT], levels=64),
    book("two words", [FILL, EMPTY], [FILL_FAR], levels=64),
    book("underflow", [FILL], [EMPTY_MORE]),
    book("set and delete", [("set", 1, 2)], [("set", 1, 3), ("delete", 1, 0)]),
    book("clear", [FILL_NEXT], [("clear", 0, 0)], before=[FILL]),
    book("timeouts", [FILL, EMPTY], [FILL_MORE], tries=2),
    book(
        "nothing left behind", [FILL, EMPTY], [FILL_NEXT], tries=24, levels=64, spurious=0,
        tidy=True,
    ),
    book("best of one", [FILL], reads=2),
    book("best of one, unheard of", [FILL], reads=2, told=False),
    book("best of one, seen", [FILL], reads=1, told=False, looked_at=1),
    book("best of two adds to one", [FILL], [FILL_MORE], reads=1, spurious=0),
    book("best of an add and what confirms it", [FILL], [("set", 1, 2)], reads=1, spurious=0),
    book("best under a summary", [FILL], [FILL_NEXT], reads=1, levels=64, spurious=0),
    book("best of two levels", [("add", 2, 2), FILL_MORE], reads=2, told=False),
    book(
        "best beside a passer-by", [("add", 2, 2)], [FILL_MORE, EMPTY_MORE],
        reads=1, told=False, spurious=0,
    ),
    book("best, and one that goes", [EMPTY_MORE], before=[FILL_MORE, FILL_NEXT], reads=1,
         told=False),
    book(
        "best of a level that stays", [EMPTY_MORE], before=[FILL_MORE, FILL_NEXT], reads=2,
        told=False, looked_at=2,
    ),
    book(
        "best of a side never empty", [FILL, EMPTY_NEXT], before=[FILL_NEXT], reads=1, told=False,
        never_empty=True,
    ),
    book(
        "best of a side that empties", [EMPTY_MORE], [EMPTY_NEXT], before=[FILL_MORE, FILL_NEXT],
        reads=1, told=False, spurious=0,
    ),
    book(
        "summary of a side that empties", [EMPTY_MORE], [EMPTY_NEXT],
        before=[FILL_MORE, FILL_NEXT], reads=1, told=False, spurious=0, levels=64,
    ),
]  # fmt: skip

#: In the short run: something of everything.
QUICK = {
    "ring/two slots, wrap at 2^64",
    "ring/four slots, batches",
    "ring/in place, batches",
    "ring/watched",
    "ring/bundles in place",
    "pipeline/stopped at any time",
    "pipeline/timed",
    "histogram/steady",
    "histogram/saturated",
    "clock/driven",
    "top/one reader",
    "mailbox/one reader",
    "bell/one bundle",
    "bell/asked late",
    "shared_book/add, and fill and empty",
    "shared_book/best of one",
    "shared_book/best of a side never empty",
}

#: Complete executions. Another number means that something else is explored: see why, then pin it.
COMPLETE: dict[str, int] = {
    "ring/one slot": 16,
    "ring/two slots": 336,
    "ring/two slots, wrap at 2^64": 20,
    "ring/four slots, batches": 26,
    "ring/in place, one slot": 128,
    "ring/in place, batches": 40,
    "ring/in place, wrap at 2^64": 288,
    "ring/watched": 22,
    "ring/bundles": 4,
    "ring/bundles in place": 8,
    "ring/bundles watched": 22,
    "ring/reports": 4,
    "ring/reports in place": 8,
    "ring/reports watched": 22,
    "gate/limits swapped": 31,
    "gate/limits swapped more often": 40,
    "gate/killed by two": 10,
    "gate/killed and armed": 8,
    "gate/killed by two and armed": 46,
    "pipeline/drained": 148,
    "pipeline/sealed at the end": 32,
    "pipeline/stopped at any time": 226,
    "pipeline/timed": 632,
    "pipeline/two lanes": 942,
    "histogram/steady": 97,
    "histogram/impatient": 2293,
    "histogram/two snapshots": 87,
    "histogram/extremes": 2114,
    "histogram/saturated": 1441,
    "histogram/many at once": 895,
    "histogram/added": 895,
    "histogram/after one given up": 49643,
    "clock/driven": 5,
    "top/one reader": 8344,
    "top/two readers": 13924,
    "mailbox/one reader": 1860,
    "mailbox/two rows": 930,
    "mailbox/two readers": 18750,
    "bell/one bundle": 378,
    "bell/two bundles, one slot": 47120,
    "bell/asked late": 391,
    "bell/two bundles, then the end": 155892,
    "shared_book/two adds": 376,
    "shared_book/add, and fill and empty": 25212,
    "shared_book/two fill and empty": 104032,
    "shared_book/three add": 1212,
    "shared_book/three, one empties": 31405,
    "shared_book/neighbours": 121,
    "shared_book/neighbours under a summary": 21590,
    "shared_book/two words": 121,
    "shared_book/underflow": 4,
    "shared_book/set and delete": 25306,
    "shared_book/clear": 278,
    "shared_book/best of one": 88,
    "shared_book/best of one, unheard of": 63,
    "shared_book/best of one, seen": 25,
    "shared_book/best of two adds to one": 318,
    "shared_book/best of an add and what confirms it": 242,
    "shared_book/best under a summary": 5054,
    "shared_book/best of two levels": 1293,
    "shared_book/best beside a passer-by": 8115,
    "shared_book/best, and one that goes": 31,
    "shared_book/best of a level that stays": 93,
    "shared_book/best of a side never empty": 357,
    "shared_book/best of a side that empties": 371,
    "shared_book/summary of a side that empties": 1927,
    "shared_book/timeouts": 1084,
    "shared_book/nothing left behind": 514,
    "pipeline/timed, with no end": 24,
    "book/tops of a window that moves": 169,
    "book/depths of a window that moves": 2234,
    "book/tops and depths": 504,
    "book/two writers": 4,
    "book/two writers, and depths": 16698,
    "lanes/one level": 4752,
    "lanes/one level, timeouts": 29162,
    "lanes/two levels, and an underflow": 710,
    "strategy/one slot": 32,
    "strategy/two slots": 156,
    "strategy/two slots, wrap at 2^64": 104,
    "strategy/four slots": 280,
    "feedback/one slot": 96,
    "feedback/two slots": 1096,
    "feedback/wrap at 2^64": 1096,
    "feedback/after the end": 31,
}
