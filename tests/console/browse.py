"""Goes through the console with a real browser and prints what it saw, as JSON. A program of its own: its driver and gevent do not mix.

    python -m tests.console.browse http://127.0.0.1:28889 look --axe node_modules/axe-core/axe.min.js
    python -m tests.console.browse http://127.0.0.1:28889 use
    python -m tests.console.browse http://127.0.0.1:28889 sign-in KEY
    python -m tests.console.browse http://127.0.0.1:28889 watch 4
    python -m tests.console.browse http://127.0.0.1:28889 pictures docs/images

It needs Playwright (`pip install playwright`) and Debian's Chromium (`apt-get install chromium`); CHROMIUM names another one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

LANGUAGES = {"en": "en-US", "zh": "zh-CN"}
SCHEMES = ("light", "dark")
VARIANTS = (("en", "light", 390), ("en", "dark", 1600), ("zh", "light", 1600), ("zh", "dark", 390))
"""Language, scheme and width: any two of them meet in each of their combinations."""
PATHS = ("/", "/live", "/calls", "/calls/1", "/sessions", "/cost", "/catalog", "/keys", "/try", "/setup")
APIS = ("openai.chat", "anthropic.messages", "openai.responses")
ZONE = "Asia/Shanghai"
NOT_TEXT = "() => document.querySelectorAll('main img, main script, main b, main iframe').length"
FAULTS = """async () => (await axe.run()).violations
    .map((one) => [one.impact, one.id, one.nodes.map((node) => node.target.join(" ")).slice(0, 3)])"""


def opened(browser: Browser, language: str, scheme: Any = "light", width: int = 1280, **more: Any) -> BrowserContext:
    """A browser of one reader."""
    locale = LANGUAGES[language]
    return browser.new_context(
        locale=locale, color_scheme=scheme, viewport={"width": width, "height": 900}, timezone_id=ZONE, reduced_motion="reduce", **more
    )


def heard(page: Page, errors: list[str]) -> Page:
    """The page, whose errors and warnings are kept."""
    page.on("console", lambda message: errors.append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    return page


def look(browser: Browser, root: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Every view, in both languages and schemes, on a small screen and a large one."""
    axe = arguments.axe.read_text() if arguments.axe else ""
    seen: dict[str, Any] = {}
    for language, scheme, width in VARIANTS:
        context = opened(browser, language, scheme, width)
        seen[f"{language} {scheme} {width}"] = {path: _view(context, root, path, axe) for path in (*PATHS, _session(context, root))}
        context.close()
    plain = opened(browser, "en", java_script_enabled=False)
    seen["without a script"] = {path: _text(plain, root, path) for path in PATHS}
    plain.close()
    return seen


def _session(context: BrowserContext, root: str) -> str:
    """The address of the first session in the list."""
    page = context.new_page()
    page.goto(f"{root}/sessions")
    address = page.locator("tbody th a").first.get_attribute("href") or ""
    page.close()
    return address


def _view(context: BrowserContext, root: str, path: str, axe: str) -> dict[str, Any]:
    errors: list[str] = []
    page = heard(context.new_page(), errors)
    answer = page.goto(root + path, wait_until="load")
    assert answer is not None
    told = {
        "status": answer.status,
        "language": page.locator("html").get_attribute("lang"),
        "heading": page.locator("h1").inner_text(),
        "width": page.evaluate("document.documentElement.scrollWidth"),
        "back": page.evaluate("getComputedStyle(document.documentElement).backgroundColor"),
        "not_text": page.evaluate(NOT_TEXT),
        "in_utc": page.locator("time:has-text('UTC')").count(),
        "zone": page.locator(".zone").text_content(),
    }
    if axe:
        page.evaluate(axe)
        told["axe"] = page.evaluate(FAULTS)
    page.close()
    return {**told, "errors": errors}


def _text(context: BrowserContext, root: str, path: str) -> str:
    page = context.new_page()
    page.goto(root + path)
    text = page.locator("main").inner_text()
    page.close()
    return text


def use(browser: Browser, root: str, _: argparse.Namespace) -> dict[str, Any]:
    """A call by each wire API, watched live by another page; a call that is left; the keyboard; the filters and downloads."""
    errors: list[str] = []
    context = opened(browser, "en")
    live, page = heard(context.new_page(), errors), heard(context.new_page(), errors)
    live.goto(f"{root}/live")
    live.locator("#connection:has-text('Live')").wait_for()
    seen: dict[str, Any] = {"calls": {api: _try(page, root, api) for api in APIS}}
    live.locator("#calls tr .badge.good").nth(len(APIS) - 1).wait_for()
    seen["live"] = live.locator("#calls tr").all_inner_texts()
    _begin(page, root, "slow", APIS[0])
    page.locator("#answer:has-text('Hello')").wait_for()
    live.locator("#calls tr .badge.warn").first.wait_for()
    page.goto(f"{root}/setup")
    live.locator("#calls tr .badge:has-text('cancelled')").first.wait_for()
    seen["left"] = live.locator("#calls tr").first.inner_text()
    _begin(page, root, "slow", APIS[0])
    page.locator("#answer:has-text('Hello')").wait_for()
    page.click("#stop")
    page.locator("#state:has-text('stopped')").wait_for()
    _begin(page, root, "broken", APIS[0])
    page.locator("#state:has-text('failed')").wait_for()
    seen["refused"] = page.locator("#answer").inner_text()
    seen["not_text"] = [one.evaluate(NOT_TEXT) for one in (live, page)]
    seen |= {"keyboard": _keyboard(page, root), "filtered": _filtered(page, root)}
    context.close()
    return {**seen, "errors": errors}


def _begin(page: Page, root: str, model: str, api: str) -> None:
    page.goto(f"{root}/try")
    page.check(f"input[value='{api}']")
    page.fill("input[name=model]", model)
    page.click("#trial button[type=submit]")


def _try(page: Page, root: str, api: str) -> dict[str, Any]:
    _begin(page, root, "claude-4-sonnet", api)
    page.locator("#receipt:not([hidden])").wait_for()
    names = ("answer", "state", "notes")
    told: dict[str, Any] = {name: page.locator(f"#{name}").inner_text() for name in names}
    told |= {name: page.locator(f"#{name}").text_content() for name in ("events", "headers", "request")}
    told["receipt"] = page.locator("#receipt").inner_text()
    page.click("#details a")
    told["details"] = page.locator("main").inner_text()
    return told


def _keyboard(page: Page, root: str) -> list[Any]:
    """What has the focus after the first tab, and after following it; whether it is seen."""
    page.goto(f"{root}/calls")
    page.keyboard.press("Tab")
    first = page.evaluate("[document.activeElement.className, document.activeElement.getBoundingClientRect().top >= 0]")
    page.keyboard.press("Enter")
    return [*first, page.evaluate("document.activeElement.id")]


def _filtered(page: Page, root: str) -> dict[str, Any]:
    _until_stored(page, root, errors=3)  # two of the calls before there was a browser, and the one that it made
    page.goto(f"{root}/calls")
    page.select_option("select[name=outcome]", "error")
    page.select_option("select[name=span]", "hour")
    page.click(".filter button")
    page.wait_for_url("**outcome=error**")
    badges = page.locator("tbody .badge").all_inner_texts()
    with page.expect_download() as download:
        page.click("a[download]:has-text('CSV')")
    return {"url": page.url.removeprefix(root), "badges": badges, "csv": Path(download.value.path()).read_text()}


def _until_stored(page: Page, root: str, errors: int) -> None:
    """Returns once so many failed calls are listed: a call's row is written after its end, in a batch."""
    for _ in range(100):
        page.goto(f"{root}/calls?outcome=error")
        if page.locator("tbody .badge").count() >= errors:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"fewer than {errors} failed calls are listed after 10 seconds")


def watch(browser: Browser, root: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The live page while somebody else calls, until so many calls are over; it says on its first line when it is there."""
    errors: list[str] = []
    context = opened(browser, "en")
    page = heard(context.new_page(), errors)
    page.goto(f"{root}/live")
    page.locator("#connection:has-text('Live')").wait_for()
    print("ready", flush=True)
    page.locator("#calls tr .badge.good").nth(int(arguments.value) - 1).wait_for(timeout=300_000)
    seen = {"rows": page.locator("#calls tr").all_inner_texts(), "errors": errors}
    context.close()
    return seen


def sign_in(browser: Browser, root: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The form, a wrong key, the right one, and out again."""
    errors: list[str] = []
    context = opened(browser, "zh", "dark", 390)
    page = context.new_page()
    page.goto(f"{root}/cost?by=key")
    seen: dict[str, Any] = {"form": page.locator("main").inner_text(), "menu": page.locator("nav a").count()}
    page.fill("input[name=key]", "sk-wrong")
    page.keyboard.press("Enter")
    seen["fault"] = page.locator("[role=alert]").inner_text()
    heard(page, errors)
    page.fill("input[name=key]", arguments.value)
    page.keyboard.press("Enter")
    page.locator("h1:has-text('费用')").wait_for()
    seen |= {"url": page.url.removeprefix(root), "cookies": context.cookies(), "script": page.evaluate("document.cookie")}
    seen["call"] = _try(page, root, APIS[0])["state"]
    page.click("form[action='/sign-out'] button")
    page.locator("input[name=key]").wait_for()
    context.close()
    return {**seen, "errors": [error for error in errors if "401" not in error]}


def pictures(browser: Browser, root: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Screenshots for the documentation."""
    shapes = (("start", "/", "light", 1040), ("call", "", "dark", 800), ("cost", "/cost", "light", 900), ("setup", "/setup", "light", 900))
    for language, ending in (("en", ""), ("zh", ".zh-CN")):
        for name, path, scheme, height in shapes:
            context = opened(browser, language, scheme, 1200)
            page = context.new_page()
            page.set_viewport_size({"width": 1200, "height": height})
            page.goto(root + (path or "/calls"), wait_until="load")
            if not path:
                page.locator("tbody td a").first.click()
                page.locator("ol.way").wait_for()
            page.screenshot(path=Path(arguments.value) / f"{name}{ending}.png")
            context.close()
    return {}


WAYS: dict[str, Callable[[Browser, str, argparse.Namespace], dict[str, Any]]] = {
    "look": look,
    "use": use,
    "sign-in": sign_in,
    "watch": watch,
    "pictures": pictures,
}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("value", nargs="?", default="")
    parser.add_argument("--axe", type=Path)
    arguments = parser.parse_args(argv)
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        print(json.dumps(WAYS[arguments.way](browser, arguments.root, arguments)))
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
