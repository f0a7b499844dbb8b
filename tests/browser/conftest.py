"""A real browser before a live server. ``make browser`` keeps what it has seen as images.

Tests of other pages go beside those of the admin: a module here, with the marker ``browser``
and the fixtures ``page`` and ``snapshot``.
"""

import importlib
import importlib.util
import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from drf_webhooks.testing import deliver_now
from tests.app.models import User

PROGRAM = os.environ.get("CHROMIUM", "chromium")
PASSWORD = "a password"  # noqa: S105  # of a test
#: Where images are kept; nowhere unless ``make browser`` says so.
IMAGES = os.environ.get("DRF_WEBHOOKS_IMAGES", "")

#: Faults of Django's own templates: the rule, and a part of the element.
_OF_DJANGO = frozenset({("label-title-only", "searchbar")})
ROOT = Path(__file__).parents[2]


def give_up(why: str) -> None:
    """Skip the test, or fail it where none may be left out."""
    (pytest.fail if "DRF_WEBHOOKS_TEST_ALL" in os.environ else pytest.skip)(why)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """Debian's chromium; never one that a package brings.

    While it is there this thread has an event loop that counts as running, which tests of other
    modules could not bear.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        give_up(f"There is no {PROGRAM}. Install it: apt-get install chromium.")
    if importlib.util.find_spec("playwright") is None:
        give_up("There is no playwright. Install the dependency group browser.")
    sync_api = importlib.import_module("playwright.sync_api")
    with pytest.MonkeyPatch.context() as patch, sync_api.sync_playwright() as playwright:
        # The ORM is used between Playwright's calls only.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        arguments = ["--no-sandbox", "--font-render-hinting=none", "--disable-lcd-text"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, live_server: Any, transactional_db: None) -> Iterator[Any]:
    """A page that fails its test when a script fails, something runs, or a file is missing."""
    context = chromium.new_context(
        base_url=live_server.url,
        viewport={"width": 1440, "height": 640},
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    context.set_default_timeout(20_000)
    context.base_url = live_server.url
    opened = context.new_page()
    wrong: list[str] = []
    opened.on("pageerror", lambda error: wrong.append(f"script: {error}"))
    opened.on(
        "dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss())
    )
    opened.on("requestfailed", lambda request: wrong.append(f"failed: {request.url}"))
    opened.on("response", lambda answer: wrong.extend(_refused(answer)))
    opened.wrong = wrong
    yield opened
    context.close()
    assert wrong == []


def _refused(answer: Any) -> list[str]:
    is_wrong = answer.status >= 400 and not answer.url.endswith("/favicon.ico")
    return [f"{answer.status}: {answer.url}"] if is_wrong else []


@pytest.fixture
def operator(transactional_db: None) -> User:
    return User.objects.create_superuser("operator", password=PASSWORD)


def log_in(page: Any, user: User) -> None:
    """Let the browser have a session of a user, without the form for it."""
    client = Client()
    client.force_login(user)
    session = client.cookies["sessionid"].value
    page.context.add_cookies(
        [{"name": "sessionid", "value": session, "url": page.context.base_url}]
    )


def expect_refusal(page: Any, status: int) -> None:
    """Take one answer of that status from what is wrong with the page."""
    [found] = page.wrong
    assert found.startswith(f"{status}: ")
    page.wrong.clear()


def press(page: Any, role: str, name: str) -> None:
    """Press a button or follow a link of exactly that name, and wait for the page behind it."""
    with page.expect_navigation():
        page.get_by_role(role, name=name, exact=True).first.click()


#: What axe is asked for: the rules of WCAG 2.1 AA, and what is good practice besides.
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice")


def faults(page: Any, *rules: str) -> list[str]:
    """Return what axe finds wrong for those who cannot see, or use no mouse, in the page's content.

    What surrounds it is Django's own.
    """
    options = {"runOnly": list(rules or RULES)}
    axe = importlib.import_module("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, context="#content", options=options)
    return [
        f"{each['id']}: {node['html'][:200]}"
        for each in found.response["violations"]
        for node in each["nodes"]
        if not any(each["id"] == rule and part in node["html"] for rule, part in _OF_DJANGO)
    ]


def deliver() -> int:
    """Deliver what is due as a worker does, in a thread of its own: this one has a loop."""

    def run() -> int:
        try:
            return deliver_now()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run).result()


#: Moments, ids, ports and secrets differ each time. They are replaced in images, so that these
#: change only when pages do: the first moment of the run becomes a fixed one.
_STEADY = """
(started) => {
  const names = new Map();
  const counted = (kind, found) => {
    if (!names.has(found)) names.set(found, names.size + 1);
    return kind(names.get(found));
  };
  const rules = [
    [/https?:\\/\\/127\\.0\\.0\\.1:\\d+\\//g, () => "https://hooks.example.com/"],
    [/http:\\/\\/localhost:\\d+\\//g, () => "https://api.example.com/"],
    [/evt_[0-9a-f]{32}/g, (found) =>
      counted((n) => "evt_01980000000070008000" + String(n).padStart(12, "0"), found)],
    [/[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}/g, (found) =>
      counted((n) => "01980000-0000-7000-8000-" + String(n).padStart(12, "0"), found)],
    [/whsec_[A-Za-z0-9+\\/=]+/g, () => "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw+made+for+docs="],
    [/\\d{4}-\\d\\d-\\d\\dT[\\d:.]+(Z|[+-]\\d\\d:\\d\\d)/g, () => "2026-03-02T10:00:00Z"],
    [/\\w{3}, \\d\\d \\w{3} \\d{4} [\\d:]+ GMT/g, () => "Mon, 02 Mar 2026 10:00:00 GMT"],
    [/BaseHTTP\\/[\\d.]+ Python\\/[\\d.]+/g, () => "nginx"],
    [/^Date: .*$/gm, () => "Date: Mon, 02 Mar 2026 10:00:00 GMT"],
    [/^Server: .*$/gm, () => "Server: nginx"],
    [/webhook-timestamp: \\d+/g, () => "webhook-timestamp: 1772445600"],
    [/over 0:00:00\\.\\d+/g, () => "over 0:00:00.012500"],
    [/\\d+ ms/g, () => "12 ms"],
  ];
  const base = Date.UTC(2026, 2, 2, 10, 0, 0);
  const steady = (at) => {
    const minutes = Math.round((at - started * 1000) / 60000);
    return new Date(base + minutes * 60000).toISOString().slice(0, 19).replace("T", " ");
  };
  for (const each of document.querySelectorAll("time")) {
    each.textContent = steady(Date.parse(each.dateTime));
  }
  // DRF's script has put parts of what follows into elements of their own.
  for (const each of document.querySelectorAll(".request-info pre")) {
    each.querySelectorAll("span").forEach((part) => part.replaceWith(part.textContent));
    each.normalize();
  }
  for (const each of document.querySelectorAll(".response-info .lit")) {
    if (/^\\d+\\.\\d+$/.test(each.textContent)) each.textContent = "12.5";
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (walker.nextNode()) nodes.push(walker.currentNode);
  for (const node of nodes) {
    if (node.parentElement.closest("script, style, time")) continue;
    let text = node.textContent;
    for (const [pattern, made] of rules) text = text.replace(pattern, made);
    if (text !== node.textContent) node.textContent = text;
  }
  window.kept = [];
  for (const each of document.querySelectorAll("input[type=text], input[type=url]")) {
    window.kept.push([each, each.value]);
    for (const [pattern, made] of rules) each.value = each.value.replace(pattern, made);
  }
  // Of the test's own project.
  document.querySelectorAll("[class*=app-django_tasks]").forEach((each) => each.remove());
  // A field that loses the focus fades in some frames.
  const still = document.createElement("style");
  still.textContent = "* { transition: none !important; }";
  document.head.append(still);
  document.activeElement && document.activeElement.blur();
}
"""


@pytest.fixture
def snapshot(page: Any) -> Callable[..., None]:
    """Keep an image of the page under a name, if images are wanted."""
    started = timezone.now().timestamp()

    def keep(name: str, *, selector: str | None = None) -> None:
        assert re.fullmatch(r"[a-z-]+", name)
        if not IMAGES:
            return
        page.evaluate(_STEADY, started)
        # What is fixed to the window stands where the page was scrolled to.
        page.evaluate("scrollTo(0, 0)")
        # Nor what lies under the mouse is another colour.
        page.mouse.move(0, 0)
        shown = page.locator(selector) if selector else page
        more = {} if selector else {"full_page": True}
        path = ROOT / IMAGES / f"{name}.png"
        shown.screenshot(path=path, animations="disabled", scale="css", **more)
        # What was typed is sent still.
        page.evaluate("window.kept.forEach(([each, value]) => { each.value = value; })")

    return keep
