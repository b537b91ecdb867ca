"""The page at `/` and the examples of the documents, in a real browser that speaks into its microphone."""

import json
import re
import wave
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest
from pydantic import SecretStr

from nautilus.access.settings import AccessSettings
from nautilus.settings import Cors, Settings
from tests.conftest import ROOT, running
from tests.engines.sounds import sample, silence
from tests.web.chromium import Browser, Tab, running_browser, site
from tests.web.clips import SPEECH
from tests.web.test_stream import HEARD

KEY = "the-key-of-a-page"
STATIC = ROOT / "src" / "nautilus" / "web" / "static"
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A browser whose microphone hears the sample once, and then a room where nobody speaks."""
    folder = tmp_path_factory.mktemp("chromium")
    said = np.concatenate([silence(0.3), sample(), silence(60.0)])
    with wave.open(str(folder / "microphone.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes((said * 32_767).astype("<i2").tobytes())
    with running_browser(folder / "profile", folder / "microphone.wav") as running_one:
        yield running_one


@pytest.fixture
def tab(browser: Browser) -> Iterator[Tab]:
    with browser.tab() as opened:
        yield opened


@pytest.fixture(scope="module")
def guarded(settings: Settings) -> Iterator[str]:
    """URL of a server that asks for a key."""
    keys = SecretStr(json.dumps([{"key": KEY, "scopes": ["stream", "transcribe"]}]))
    with running(settings.model_copy(update={"access": AccessSettings(required=True, keys=keys)})) as url:
        yield url


def assert_heard(texts: Sequence[str]) -> None:
    """Check that captions are what the microphone played, but for what a machine that is busy leaves out of it."""
    alike = SequenceMatcher(None, " ".join(texts).split(), HEARD.split(), autojunk=False).ratio()
    assert alike > 0.6, texts


def texts(tab: Tab, selector: str) -> list[str]:
    found: list[str] = tab.run(f"[...document.querySelectorAll('{selector}')].map((one) => one.textContent)")
    return found


def press(tab: Tab, selector: str) -> None:
    tab.run(f"document.querySelector('{selector}').click()")


def give_key(tab: Tab, key: str) -> None:
    tab.run(f"document.getElementById('key').value = '{key}'")
    tab.run("document.getElementById('key').dispatchEvent(new Event('change'))")


def downloads(tab: Tab) -> None:
    """Keep what the page lets people download."""
    tab.run("window.saved = []; window.content = undefined")
    tab.run("URL.createObjectURL = (blob) => { content = blob.text(); return 'blob:kept'; }")
    tab.run(
        "HTMLAnchorElement.prototype.click = async function () { saved.push(`${this.download}\\n${await content}`); }"
    )


def test_the_page_captions_the_microphone(server: str, tab: Tab) -> None:
    tab.open(f"{server}/")
    tab.run("document.getElementById('delay').value = 'xhigh'")
    press(tab, "#record")
    tab.until("document.querySelector('.saying')?.textContent.includes('timer')")
    assert tab.run("document.getElementById('state').textContent") == "Listening …"
    assert texts(tab, "li") == []
    tab.until("document.querySelector('li')")
    press(tab, "#record")
    tab.until("document.querySelector('article.done')")
    assert_heard(texts(tab, "li .text"))
    assert re.fullmatch("0:0[0-2]", texts(tab, "li time")[0])
    assert tab.run("document.querySelector('.saying').textContent.trim()") == ""
    assert tab.run("document.getElementById('verb').textContent") == "Start"
    assert tab.run("document.getElementById('trouble').hidden")


def test_the_page_transcribes_a_file_and_offers_subtitles(server: str, tab: Tab) -> None:
    tab.open(f"{server}/")
    tab.choose("#file", SPEECH)
    tab.until("document.querySelector('article.done')")
    assert texts(tab, "li .text") == [HEARD]
    assert texts(tab, ".facts")[0].startswith("0:03, ")
    downloads(tab)
    press(tab, ".srt")
    tab.until("saved.length")
    name, number, times, *lines = tab.run("saved[0]").splitlines()
    assert (name, number) == ("sample.srt", "1")
    assert re.fullmatch(r"00:00:0\d,\d{3} --> 00:00:0[1-4],\d{3}", times)
    assert len(lines) == 2
    assert " ".join(lines) == HEARD


def test_what_is_no_recording_is_told_and_leaves_nothing(server: str, tab: Tab) -> None:
    tab.open(f"{server}/")
    tab.choose("#file", ROOT / "pyproject.toml")
    tab.until("!document.getElementById('trouble').hidden")
    assert "not an audio" in tab.run("document.getElementById('trouble').textContent")
    assert texts(tab, "article") == []


def test_a_server_that_asks_for_keys_gets_one_from_the_page(guarded: str, tab: Tab) -> None:
    tab.open(f"{guarded}/")
    tab.until("!document.getElementById('trouble').hidden")
    assert tab.run("document.getElementById('settings').open && document.activeElement.id") == "key"
    give_key(tab, "wrong")
    tab.until("performance.getEntriesByName(new URL('v1/models', location)).length === 2")
    tab.choose("#file", SPEECH)
    tab.until("document.getElementById('trouble').textContent.startsWith('sample.flac: ')")
    assert texts(tab, "article") == []
    give_key(tab, KEY)
    tab.until("document.getElementById('trouble').hidden && document.getElementById('model').options.length > 1")
    tab.choose("#file", SPEECH)
    tab.until("document.querySelector('article.done')")
    assert texts(tab, "li .text") == [HEARD]


def test_captions_with_a_key_survive_a_broken_connection(guarded: str, tab: Tab) -> None:
    tab.open(f"{guarded}/")
    give_key(tab, KEY)
    tab.run("window.Real = WebSocket; window.opened = []")
    tab.run("window.WebSocket = class extends Real { constructor(...all) { super(...all); opened.push(this); } }")
    press(tab, "#record")
    tab.until("document.querySelector('.saying')?.textContent.includes('timer')")
    tab.run("opened[0].close(4321)")
    tab.until("document.querySelector('li')")
    assert tab.run("opened.length") == 2
    assert_heard(texts(tab, "li .text"))


def test_the_page_loads_nothing_from_elsewhere_and_is_small(server: str) -> None:
    whole = 0
    for path in ("", *(f"static/{file.name}" for file in STATIC.iterdir() if file.name != "index.html")):
        answer = httpx.get(f"{server}/{path}").raise_for_status()
        whole += len(answer.content)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"(?:https?:)?//[a-z]+\.", answer.text.replace("http://www.w3.org/2000/svg", ""))
        again = httpx.get(f"{server}/{path}", headers={"if-none-match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert whole < 40_000


def example(name: str, server: str) -> tuple[str, str]:
    """Return an example as somebody's web server would serve it: only the address is another."""
    page = (EXAMPLES / name).read_text(encoding="utf-8")
    assert "ws://127.0.0.1:8000" in page
    return "text/html", page.replace("ws://127.0.0.1:8000", f"ws://{urlsplit(server).netloc}")


def test_the_example_with_mediarecorder_captions_the_microphone(settings: Settings, tab: Tab) -> None:
    pages: dict[str, tuple[str, str]] = {}
    with site(pages) as address, running(settings.model_copy(update={"cors": Cors((address,))})) as server:
        pages["/page"] = example("microphone.html", server)
        tab.open(f"{address}/page")
        press(tab, "#button")
        tab.until("document.querySelector('#saying').textContent.includes('timer')")
        tab.until("document.querySelector('#said').textContent.includes('next')")
        press(tab, "#button")
        tab.until("document.querySelector('#button').disabled === false")
        assert_heard(texts(tab, "#said"))


def test_the_example_with_a_client_secret_captions_the_microphone(guarded: str, tab: Tab) -> None:
    minted = httpx.post(f"{guarded}/v1/realtime/client_secrets", headers={"Authorization": f"Bearer {KEY}"}, json={})
    secret = minted.raise_for_status().json()["value"]
    pages = {"/page": example("realtime.html", guarded), "/secret": ("text/plain", secret)}
    with site(pages) as address:
        tab.open(f"{address}/page")
        press(tab, "#button")
        tab.until("document.querySelector('#said').textContent.includes('timer')")
        tab.until("document.querySelector('#said').dataset.items === '1'")
        press(tab, "#button")
        tab.until("document.querySelector('#button').textContent === 'Start'")
        assert_heard(texts(tab, "#said"))
