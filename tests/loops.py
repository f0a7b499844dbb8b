"""Run coroutines in tests, and leave no connection open behind them."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run to the end, and close the connections of the thread that ran sync code."""

    async def main() -> Any:
        try:
            return await coroutine
        finally:
            await sync_to_async(connections.close_all)()

    return asyncio.run(main())
