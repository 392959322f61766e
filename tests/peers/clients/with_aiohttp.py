"""aiohttp (aiohttp-socks for SOCKS)."""

import asyncio

import aiohttp
import steps


async def main():
    socks = steps.proxy and steps.proxy.startswith("socks")
    connector = None
    if socks:
        from aiohttp_socks import ProxyConnector

        connector = ProxyConnector.from_url(steps.proxy)
    limit = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(connector=connector, timeout=limit) as session:
        for method, path, body in steps.steps():
            proxy = None if socks else steps.proxy
            async with session.request(method, steps.base + path, data=body, proxy=proxy) as answer:
                steps.say(method, path, answer.status, answer.headers.items(), await answer.read())


asyncio.run(main())
