"""``stoker attach --web``: the page over a socket, a tab's dashboard over another, and who may."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from benchmarks.servers import free_port
from engine.snapshot import AgentStatus
from tests.cli.test_cli import stoker
from tests.dashboard.attaching import scripted, serving

KEY = "k-secret"
ADDRESS = re.compile(r"open (http://127\.0\.0\.1:(\d+)/\?token=\S+)")
LIMIT_S = 60.0


class Web:
    """A ``stoker attach --web`` that runs."""

    def __init__(self, url: str, home: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app.cli", "attach", url, "--web-port", "0", *flags],
            env={**os.environ, "STOKER_HOME": str(home), "STOKER_API_KEY": KEY},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        found = ADDRESS.search(self.process.stdout.readline())
        assert found is not None
        self.address, self.port = found[1], int(found[2])
        self.root = f"http://127.0.0.1:{self.port}"

    def end(self) -> str:
        """Ends it; returns what else it said."""
        self.process.send_signal(signal.SIGTERM)
        said, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return said


async def drawn(socket: aiohttp.ClientWebSocketResponse, words: str) -> str:
    """Reads what is drawn until it has the words."""
    text = ""
    async with asyncio.timeout(LIMIT_S):
        while words not in text:
            message = await socket.receive()
            assert message.type in (aiohttp.WSMsgType.BINARY, aiohttp.WSMsgType.TEXT), message
            if message.type is aiohttp.WSMsgType.BINARY:
                text += message.data.decode("utf-8", "replace")
    return text


async def press(socket: aiohttp.ClientWebSocketResponse, key: str) -> None:
    await socket.send_json(["stdin", key])


@pytest.fixture
async def jar() -> aiohttp.CookieJar:
    return aiohttp.CookieJar(unsafe=True)  # cookies of a bare address too


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with serving(scripted(), key=KEY) as server:
        web = Web(server.url, tmp_path)
        try:
            yield web
        finally:
            if web.process.poll() is None:
                web.end()


async def test_a_tab_draws_the_engine_there_acts_on_it_and_leaves_it_alone(
    tmp_path: Path, jar: aiohttp.CookieJar
) -> None:
    engine = scripted()
    with serving(engine, key=KEY) as server:
        web = Web(server.url, tmp_path)
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            async with session.get(web.address) as page:
                text = await page.text()
                assert page.status == 200
                assert "token" not in str(page.url)
                assert f'data-session-websocket-url="ws://127.0.0.1:{web.port}/ws"' in text
                # Nothing is fetched from anywhere else.
                assert set(re.findall(r'(?:src|href)="([^"]+)"', text)) == {
                    "/static/css/xterm.css",
                    "/static/js/textual.js",
                }
                assert KEY not in text
            async with session.get(f"{web.root}/static/js/textual.js") as script:
                assert script.status == 200
            async with session.ws_connect(f"{web.root}/ws?width=120&height=40") as tab:
                await drawn(tab, "claude repo-a")
                await asyncio.sleep(1.0)  # the agents take keys from the first look at them on
                await press(tab, "jjjj")
                await press(tab, "p")
                await drawn(tab, "unpinned")
                row = engine.snapshot.agent("review-bot")
                assert row is not None
                assert not row.pinned
                await press(tab, "q")
                async with asyncio.timeout(LIMIT_S):
                    while (await tab.receive()).type not in (
                        aiohttp.WSMsgType.CLOSE,
                        aiohttp.WSMsgType.CLOSED,
                        aiohttp.WSMsgType.CLOSING,
                    ):
                        pass
        assert KEY not in web.end()
        assert engine.snapshot.agents[0].status is AgentStatus.DECODING


async def test_nobody_comes_in_without_the_address_or_from_another_site(
    web: Web, jar: aiohttp.CookieJar
) -> None:
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        for path in ("/", "/ws", "/static/js/textual.js", "/?token=guess"):
            async with session.get(web.root + path) as reply:
                assert reply.status == 403, path
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await session.ws_connect(f"{web.root}/ws")
        async with session.get(web.address) as page:
            assert page.status == 200
            assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        for headers in ({"origin": "http://evil.example"}, {"host": f"evil.example:{web.port}"}):
            async with session.get(web.root, headers=headers) as reply:
                assert reply.status == 403
            with pytest.raises(aiohttp.WSServerHandshakeError):
                await session.ws_connect(f"{web.root}/ws", headers=headers)


async def test_a_tab_that_watches_changes_nothing(tmp_path: Path, jar: aiohttp.CookieJar) -> None:
    engine = scripted()
    with serving(engine, key=KEY) as server:
        web = Web(server.url, tmp_path, "--readonly")
        async with aiohttp.ClientSession(cookie_jar=jar) as session:
            await session.get(web.address)
            async with session.ws_connect(f"{web.root}/ws?width=120&height=40") as tab:
                await drawn(tab, "claude repo-a")
                await press(tab, "jjjjp")
                await press(tab, "?")
                await drawn(tab, "Keys, marks and colours")
        web.end()
        assert engine.snapshot.agent("review-bot").pinned  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--web-port", "many"], "must be a port"),
        (["--web", "--record", "x.stoker-recording"], "record where the engine runs"),
        (["--web"], "no Stoker answers"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(flags: list[str], words: str) -> None:
    run = stoker("attach", f"http://127.0.0.1:{free_port()}", *flags)
    assert run.returncode == 1
    assert words in run.stderr
    assert run.stderr.count("\n") == 1
