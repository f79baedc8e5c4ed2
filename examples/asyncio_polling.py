"""Bundles in an asyncio program: the event loop sleeps until the pipeline has sealed one."""

from __future__ import annotations

import asyncio

import velox


async def consume(output: velox.PullOutput) -> int:
    """Take every bundle until the pipeline ends; return how many records they held."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    records = 0

    def ready() -> None:
        nonlocal records
        with output.poll() as bundles:
            records += int(bundles["count"].sum())
        if output.exhausted and not ended.done():
            loop.remove_reader(output.fileno())
            ended.set_result(None)

    loop.add_reader(output.fileno(), ready)
    await ended
    return records


async def main() -> None:
    """Run a pipeline for half a second beside the loop."""
    output = velox.PullOutput()
    pipeline = velox.Pipeline(
        velox.PoissonIngress(rate=10_000, seed=7),
        output,
        config=velox.PipelineConfig(placement="shared", idle="backoff"),
    )
    running = asyncio.create_task(asyncio.to_thread(pipeline.run, 0.5))
    records = await consume(output)
    report = await running
    assert records == report.ledger.delivered_transactions
    print(f"took {records:,} records; balanced: {report.ledger.balanced}")


if __name__ == "__main__":
    asyncio.run(main())
