"""An asyncio event loop on a thread of its own, which serves any number of connections."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from velox.runtime.threads import start_thread

__all__ = ["BACKLOG", "LoopThread"]

#: How many connections may wait to be accepted. One more waits a second to try again.
BACKLOG: Final = 1024

_T = TypeVar("_T")


class LoopThread:
    """Runs an event loop from construction until `close`, which leaves no thread behind.

    Parameters
    ----------
    name : str
        The name of the thread.

    Raises
    ------
    ThreadError
        The system has no more threads.
    """

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        # A broken connection of a client, or a lack of descriptors, is not an error here.
        self.loop.set_exception_handler(lambda loop, context: None)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        try:
            start_thread(self._thread)
        except BaseException:
            self.loop.close()
            raise

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine on the loop, from another thread, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    def close(self) -> None:
        """Cancel what runs on the loop, and end the thread."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(self.loop)
            for task in tasks:
                task.cancel()
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()
