"""Every account of every instruction, replaced by every kind of wrong one.

`CASES` names them; `attack` runs one and returns its error. What the real program answers is
recorded in ``hostile.json``, made by ``python -m tests.verify.market.hostile``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from solders.account import Account
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from .wire import (
    GLOBAL,
    HEADER_BYTES,
    PROGRAM,
    SYSTEM,
    TOKEN,
    TOKEN_2022,
    Cancel,
    Place,
    batch,
    batch_data,
    claim_seat,
    create,
    expand,
    global_accounts,
    vault,
)
from .world import MarketWorld, address

RECORD: Final = Path(__file__).with_name("hostile.json")
KINDS: Final = ("token", "token-2022")


class HostileWorld(MarketWorld):
    """A market, a second one, and fake accounts that look valid."""

    def __init__(self, program: bytes, kind: str) -> None:
        owner = TOKEN if kind == "token" else TOKEN_2022
        super().__init__(program, traders=3, deposits=0, base_program=owner, quote_program=owner)
        for number in range(2):
            self.seat(number)
            for side in range(2):
                self.move(2, number, side, 10**12)
        asks = [Place(100, 15, -1, False), Place(100, 20, -1, False), Place(100, 1, -1, True)]
        done = self.run(1, batch(self.traders[1], self.market, (), asks))
        assert done.error is None
        done = self.run(0, batch(self.traders[0], self.market, (), asks[:1]))
        assert done.error is None
        self.own_order = done.placed[0]
        done = self.run(0, expand(self.traders[0], self.market, 4))
        assert done.error is None
        other = address("second market")
        self.svm.set_account(other, Account(10**7, bytes(HEADER_BYTES), PROGRAM))
        done = self.send(create(self.creator, other, *self.mints), payer=self.creator)
        assert done.error is None
        foreign = self.mint("foreign", 3, owner=owner)
        data = self.market_data()
        for name, account in {
            "system's market": Account(10**9, data, SYSTEM),
            "short market": Account(10**9, data[:200], PROGRAM),
            "blank market": Account(10**9, bytes(HEADER_BYTES + 160), PROGRAM),
            "fresh market": Account(10**9, bytes(HEADER_BYTES), PROGRAM),
            "system's tokens": Account(10**9, self.data(self.wallets[0][0]), SYSTEM),
            "short tokens": Account(10**9, bytes(self.data(self.wallets[0][0]))[:20], owner),
            "72 byte tokens": Account(10**9, bytes(self.data(self.wallets[0][0]))[:71], owner),
        }.items():
            self.svm.set_account(address(name), account)
        self.impostors: dict[str, Pubkey] = {
            "stranger": address("stranger"),
            "another trader": self.traders[1],
            "program": PROGRAM,
            "system": SYSTEM,
            "token": TOKEN,
            "token-2022": TOKEN_2022,
            "market": self.market,
            "second market": other,
            **{
                name: address(name)
                for name in (
                    "system's market",
                    "short market",
                    "blank market",
                    "fresh market",
                    "system's tokens",
                    "short tokens",
                    "72 byte tokens",
                )
            },
            "base mint": self.mints[0],
            "quote mint": self.mints[1],
            "foreign mint": foreign,
            "base vault": self.vaults[0],
            "quote vault": self.vaults[1],
            "second base vault": vault(other, self.mints[0]),
            "own base": self.wallets[0][0],
            "own quote": self.wallets[0][1],
            "another's base": self.wallets[1][0],
            "another's quote": self.wallets[1][1],
            "foreign tokens": self.tokens(
                "foreign tokens", foreign, self.traders[0], program=owner
            ),
            "poor base": self.tokens("poor base", self.mints[0], self.traders[0], 3, program=owner),
        }

    def instructions(self) -> dict[str, Instruction]:
        """One good instruction of each kind, of trader 0."""
        trader, market = self.traders[0], self.market
        newcomer = self.traders[2]
        plain = batch(trader, market, (), [Place(5, 1, 0, False)])
        both = [
            account
            for mint, token in zip(self.mints, self.programs, strict=True)
            for account in global_accounts(market, mint, token)
        ]
        swap = self.swap(0, 100, 1, base_in=False, exact_in=True)
        *_, token = swap.accounts[:8]
        of_swap = [
            *swap.accounts[:8],
            both[0],
            token,
            both[5],
            both[1],
            both[2],
        ]
        return {
            "batch, base globals": Instruction(
                PROGRAM, bytes(plain.data), [*plain.accounts, *both[:5]]
            ),
            "batch, globals": Instruction(PROGRAM, bytes(plain.data), [*plain.accounts, *both]),
            "batch, global order": Instruction(
                PROGRAM,
                batch_data((), [Place(5, 1, 0, False, 0, GLOBAL)]),
                [*plain.accounts, *both],
            ),
            "swap, global": Instruction(PROGRAM, bytes(swap.data), of_swap),
            "create": create(trader, address("fresh market"), *self.mints),
            "seat": claim_seat(newcomer, market),
            "deposit": self.transfer(2, 0, 0, 5),
            "withdraw": self.transfer(3, 0, 1, 5),
            "swap": self.swap(0, 100, 1, base_in=False, exact_in=True),
            "swap base": self.swap(2, 100, 0, base_in=True, exact_in=False),
            "swap v2": self.swap(0, 100, 1, base_in=True, exact_in=True, v2=True),
            "expand": expand(trader, market, 6),
            "batch": batch(
                trader,
                market,
                [Cancel(self.own_order[0], self.own_order[1])],
                [Place(5, 1, 0, False)],
            ),
        }


def attacks(world: HostileWorld) -> Iterator[tuple[str, Instruction]]:
    """Yield the name of each case and its instruction."""
    for name, good in world.instructions().items():
        accounts = list(good.accounts)
        yield f"{name}: good", good

        def changed(at: int, meta: AccountMeta, good: Instruction = good) -> Instruction:
            accounts = list(good.accounts)
            accounts[at] = meta
            return Instruction(PROGRAM, bytes(good.data), accounts)

        for at, old in enumerate(accounts):
            yield (
                f"{name}: {at} accounts",
                Instruction(PROGRAM, bytes(good.data), accounts[:at]),
            )
            if old.is_signer:
                yield (
                    f"{name}: {at} unsigned",
                    changed(at, AccountMeta(old.pubkey, False, old.is_writable)),
                )
            if old.is_writable:
                yield (
                    f"{name}: {at} read only",
                    changed(at, AccountMeta(old.pubkey, old.is_signer, False)),
                )
            for impostor, key in world.impostors.items():
                if key != old.pubkey:
                    yield (
                        f"{name}: {at} {impostor}",
                        changed(at, AccountMeta(key, old.is_signer, old.is_writable)),
                    )
        for cut in range(len(bytes(good.data))):
            yield (
                f"{name}: {cut} bytes",
                Instruction(PROGRAM, bytes(good.data)[:cut], accounts),
            )
        yield (
            f"{name}: a byte more",
            Instruction(PROGRAM, bytes(good.data) + b"\0", accounts),
        )


def run(program: bytes, kind: str) -> dict[str, str]:
    """Return the error of each case, by its name; nothing is left changed in between."""
    world = HostileWorld(program, kind)
    payer = world.fund(address("the payer of fees"))
    keys = [world.market, *world.impostors.values(), *world.traders, payer]
    keys = [key for key in dict.fromkeys(keys) if key not in (SYSTEM, PROGRAM, TOKEN, TOKEN_2022)]
    kept = {key: world.svm.get_account(key) for key in keys}
    results = {}
    for name, instruction in attacks(world):
        done = world.send(instruction, payer=payer)
        results[name] = (done.error or "ok").replace("TransactionErrorInstructionError", "")
        if done.error is None:
            for made in (vault(address("fresh market"), each) for each in world.mints):
                kept.setdefault(made, None)
            for key, account in kept.items():
                world.svm.set_account(key, account or Account(0, b"", SYSTEM))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.verify.market.hostile", description=__doc__
    )
    parser.add_argument("--ours", type=Path, help="compare this program instead of recording")
    asked = parser.parse_args()
    real = Path(os.environ["VELOX_MANIFEST_SO"]).read_bytes()
    told = {kind: run(real, kind) for kind in KINDS}
    if asked.ours is None:
        RECORD.write_text(json.dumps(told, indent=0, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{RECORD}: {sum(map(len, told.values()))} cases")
        return 0
    wrong = 0
    for kind in KINDS:
        mine = run(asked.ours.read_bytes(), kind)
        for name, error in told[kind].items():
            if mine[name] != error:
                wrong += 1
                print(f"{kind}: {name}: {error} / {mine[name]}")
    print(f"{wrong} of {sum(map(len, told.values()))} differ")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
