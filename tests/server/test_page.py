"""The page's files, as they are and as they are served."""

import re
from importlib.resources import files

import pytest

FILES = {file.name: file.read_text("utf-8") for file in (files("outrider.server") / "static").iterdir()}
MODULES = sorted(name for name in FILES if name.endswith(".js"))
NAMESPACE = "http://www.w3.org/2000/svg"
# What would take text for HTML or for code.
DANGEROUS = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser")


def test_the_page_is_served_with_all_its_files(http):
    reply = http.get("/")
    assert reply.status_code == 200
    assert reply.text == FILES["index.html"]
    for name, text in FILES.items():
        assert http.get(f"/{name}").text == text
    kinds = {"style.css": "text/css", "main.js": "text/javascript", "icon.svg": "image/svg+xml"}
    for name, kind in kinds.items():
        assert http.get(f"/{name}").headers["content-type"].startswith(kind)


def test_a_browser_may_run_only_what_this_server_sends(http):
    for name in ("", *FILES):
        headers = http.get(f"/{name}").headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert set(policy.values()) == {"'none'", "'self'"}
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/static", "/../app.py", "/%2e%2e/app.py", "/app.py", "/main.js/x", "/style"])
def test_no_other_file_can_be_had(http, path):
    assert http.get(path).status_code == 404


@pytest.mark.parametrize("name", FILES)
def test_a_file_needs_nothing_from_elsewhere(name):
    text = FILES[name].replace(NAMESPACE, "")
    assert not re.search(r"https?://|//[a-z]+\.[a-z]|@import|data:(?!\")", text)


@pytest.mark.parametrize("name", MODULES)
def test_no_module_takes_text_for_html(name):
    assert [word for word in DANGEROUS if word in FILES[name]] == []


def test_the_document_holds_no_code_and_no_style():
    html = FILES["index.html"]
    assert re.findall(r"<script(?![^>]*\bsrc=)", html) == []
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)


def test_every_id_that_a_module_asks_for_is_in_the_document():
    ids = set(re.findall(r'\bid="([\w-]+)"', FILES["index.html"]))
    asked = {name for module in MODULES for name in re.findall(r'byId\("([\w-]+)"\)', FILES[module])}
    assert asked <= ids


def test_modules_are_few_and_short():
    assert all(len(FILES[name].splitlines()) <= 200 for name in MODULES)
