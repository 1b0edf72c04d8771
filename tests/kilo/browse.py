"""Looks at the pages with a real browser and prints what it saw, as JSON. A program of its own: the browser's driver and gevent don't mix.

    python -m tests.kilo.browse http://127.0.0.1:28889

It needs Playwright (`pip install playwright`) and Debian's Chromium (`apt-get install chromium`); CHROMIUM names another one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import urllib.parse
from typing import Any

from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1100, 900
LANGUAGES = {"en": "en-US", "zh": "zh-CN"}


def look(page: Page, root: str, path: str) -> dict[str, Any]:
    """Open a page, press every copy button, and tell all that can be told."""
    seen: dict[str, Any] = {"requests": [], "errors": [], "copied": []}
    page.on("request", lambda request: seen["requests"].append(request.url))
    page.on("console", lambda message: seen["errors"].append(message.text) if message.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: seen["errors"].append(str(error)))
    answer = page.goto(root + path, wait_until="networkidle")
    assert answer is not None
    seen |= {"status": answer.status, "policy": answer.headers.get("content-security-policy", "")}
    seen |= {"language": page.locator("html").get_attribute("lang"), "heading": page.locator("h1").inner_text()}
    closed = page.locator("details:not([open]) > summary code")
    while closed.count():
        closed.first.click()
    for button in page.locator("button.copy").all():
        before = button.inner_text()
        button.click()
        button.and_(page.locator(".done, .failed")).wait_for()
        text = button.locator("xpath=..").locator("pre").text_content()
        in_clipboard = page.evaluate("navigator.clipboard.readText()")
        seen["copied"].append(
            {"label": before, "then": button.inner_text(), "is_same": in_clipboard == text, "characters": len(text or "")}
        )
    return seen


def inject(page: Page, root: str) -> bool:
    """Whether a script that gets into the page would run: the policy must not let it."""
    page.goto(root + "/setup")
    page.evaluate("""() => { const script = document.createElement('script'); script.textContent = 'window.injected = true';
        document.body.append(script); }""")
    return bool(page.evaluate("window.injected === true"))


def switch(page: Page, root: str, path: str) -> list[str | None]:
    """The language before, after one and after two presses of the switch."""
    page.goto(root + path)
    languages = [page.locator("html").get_attribute("lang")]
    for _ in range(2):
        page.click("#language")
        page.wait_for_load_state("networkidle")
        languages.append(page.locator("html").get_attribute("lang"))
    return languages


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("root")
    arguments = parser.parse_args(argv)
    executable = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    report: dict[str, Any] = {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        for language, locale in LANGUAGES.items():
            context = browser.new_context(locale=locale, viewport={"width": WIDTH, "height": HEIGHT})
            context.grant_permissions(["clipboard-read", "clipboard-write"], origin=arguments.root)
            report[language] = {
                "/": look(context.new_page(), arguments.root, "/"),
                "/setup": look(context.new_page(), arguments.root, "/setup"),
            }
            report[language] |= {
                "switch": {path: switch(context.new_page(), arguments.root, path) for path in ("/", "/setup")},
                "injected": inject(context.new_page(), arguments.root),
            }
            context.close()
        browser.close()
    host = urllib.parse.urlsplit(arguments.root).netloc
    report["elsewhere"] = sorted(
        {
            url
            for language in LANGUAGES
            for page in ("/", "/setup")
            for url in report.get(language, {}).get(page, {}).get("requests", ())
            if urllib.parse.urlsplit(url).netloc != host
        }
    )
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
