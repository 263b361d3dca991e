"""The page in Chromium, with the server that people run."""

import json
import re
import shutil
import time

import pytest

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
if CHROMIUM is None:
    pytest.skip("there is no Chromium", allow_module_level=True)

from server.conftest import running, service  # noqa: E402

pytestmark = pytest.mark.browser
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
LEAST_CONTRAST = 4.5  # WCAG AA, of text
LEAST_GRAPHIC_CONTRAST = 3.0  # of lines that mean something
KINDS = ("suffix", "lookup", "head", "model", "grammar", "correction", "bonus", "plain")
# The colour that is seen: what lies on top of what, painted and read back.
SEEN = """([selector, property, below]) => {
    const brush = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const styles = getComputedStyle(document.querySelector(selector));
    for (const colour of [getComputedStyle(document.querySelector(below)).backgroundColor, styles[property]]) {
        brush.fillStyle = colour;
        brush.fillRect(0, 0, 1, 1);
    }
    return [...brush.getImageData(0, 0, 1, 1).data].slice(0, 3);
}"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield launched
        launched.close()


@pytest.fixture
def open_page(browser, address):
    """Opens the page; at the end of the test nothing may have gone wrong in it."""
    contexts, complaints = [], []

    def open_at(url=address, *, width=1200, height=800, dark=False, harmless=()):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if dark else "light"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))

        def hear(message):
            if message.type == "error" and not any(word in message.text for word in harmless):
                complaints.append(message.text)

        page.on("console", hear)
        page.goto(url)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture
def page(open_page):
    return open_page()


def ask(page, question, **settings):
    """Sends a question, and waits for the end of the answer."""
    choose(page, **({"temperature": "0", "max_tokens": "60"} | settings))
    send(page, question)
    page.wait_for_selector("#send:not(.stop)")


def choose(page, **settings):
    page.click("#open-settings")
    for name, value in settings.items():
        field = f"#settings [name={name}]"
        page.set_checked(field, value) if isinstance(value, bool) else page.fill(field, value)
    page.click("#settings .primary")


def send(page, question):
    page.fill("#message", question)
    page.press("#message", "Enter")


def until(page, condition, seconds=60):
    """Waits for a condition in the page. Its policy forbids the strings of code that `wait_for_function` makes."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


def answers_with(page, *parts):
    """The server's next answers are these chunks: (text, tokens, rounds)."""
    chunks = [
        {"choices": [{"delta": {"content": text}}], "outrider": {"tokens": tokens, "rounds": rounds}}
        for text, tokens, rounds in parts
    ]
    body = "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"
    page.route("**/v1/chat/completions", lambda route: route.fulfill(body=body, content_type="text/event-stream"))


def token(text, origin, source="", round=0):
    return {"id": 1, "text": text, "origin": origin, "source": source, "logprob": -0.5, "round": round}


def node(text, parent, accepted, source="suffix"):
    return {"id": 1, "text": text, "parent": parent, "accepted": accepted, "source": source, "chance": 0.5}


def round_of(number, drafted, emitted):
    return {
        "round": number,
        "rows": 1,
        "drafted": drafted,
        "accepted": sum(each["accepted"] for each in drafted),
        "emitted": [1] * emitted,
        "plain_seconds": 0.02,
        "seconds": {"drafting": 0.001, "verification": 0.02, "elsewhere": 0.001},
    }


# The server counts rounds from its start: these are the first and the second one of an answer.
TREE = round_of(8, [node(" cat", -1, True), node(" dog", -1, False), node(" sat", 0, True), node(" ran", 1, False)], 3)
TREE_TOKENS = [token(" cat", "drafted", "suffix", 8), token(" sat", "drafted", "recycling", 8)]
TREE_ANSWER = (
    ("The", [token("The", "plain", round=7)], [round_of(7, [], 1)]),
    (" cat sat.", [*TREE_TOKENS, token(".", "bonus", round=8)], [TREE]),
)


def test_an_answer_is_that_of_the_server_and_every_token_has_its_origin(page, http):
    question = "abcabcabcabc"
    ask(page, question)
    body = {"messages": [{"role": "user", "content": question}], "max_tokens": 60, "temperature": 0}
    reply = http.post("/v1/chat/completions", json=body | {"outrider": {"tokens": True}}).json()
    assert page.inner_text(".answer") == reply["choices"][0]["message"]["content"].rstrip()
    tokens = reply["choices"][0]["outrider"]["tokens"]
    assert page.locator(".answer .t").count() == len(tokens) == 60
    copied = page.locator(".answer .o-suffix").count()
    assert copied > 5
    assert page.inner_text("#legend li:has(.o-suffix) .count") == str(copied)
    assert re.match(r"60 tokens · [\d.]+/s · [\d.]+ per round · cut off", page.inner_text(".about"))
    assert page.get_attribute(".chart .line >> nth=0", "points").count(",") > 5


def test_code_between_fences_has_a_font_of_its_own(page):
    pieces = ["See", ":\n", "``", "`py", "\n", "if a", ":\n", "    b", "\n", "```", "\n", "Done", "."]
    answers_with(page, ("".join(pieces), [token(piece, "plain") for piece in pieces], []))
    ask(page, "code")
    assert "".join(page.locator(".answer .code").all_text_contents()).strip() == "if a:\n    b"
    family = "node => getComputedStyle(node).fontFamily"
    assert "monospace" in page.locator(".answer .code").first.evaluate(family)
    assert "monospace" not in page.locator(".answer .t").last.evaluate(family)


def test_a_second_question_goes_on_with_the_chat(page):
    ask(page, "abc", system="be brief")
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "more")
    messages = sent.value.post_data_json["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[2]["content"] == page.inner_text(".answer >> nth=0")
    page.wait_for_selector("#send:not(.stop)")
    page.click(".retry")
    page.wait_for_selector("#send:not(.stop)")
    assert page.locator(".question").all_inner_texts() == ["abc", "more"]
    page.click("#new-chat")
    assert page.locator(".question").count() == 0


def test_a_chat_outlives_a_reload_and_a_new_one_begins_with_nothing(page):
    ask(page, "abc")
    said = page.inner_text(".answer")
    page.reload()
    assert page.inner_text(".answer") == said
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "more")
    assert [message["content"] for message in sent.value.post_data_json["messages"]] == ["abc", said, "more"]
    page.wait_for_selector("#send:not(.stop)")
    choose(page, max_tokens="4000", temperature="1", seed="1")
    send(page, "long")
    until(page, "document.querySelectorAll('.turn:last-child .t').length > 5")
    page.click("#new-chat")  # while the answer comes
    page.wait_for_selector("#send:not(.stop)")
    choose(page, max_tokens="5")
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "other")
    assert [message["content"] for message in sent.value.post_data_json["messages"]] == ["other"]
    page.wait_for_selector("#send:not(.stop)")


def test_text_of_a_model_is_never_html(page):
    text = '<img src=x onerror="document.title=1"><script>document.title=2</script><b>bold</b> &amp;'
    answers_with(page, (text, [token(text, "drafted", "<i>suffix</i>")], []))
    send(page, "<b>hello</b>")
    page.wait_for_selector("#send:not(.stop)")
    assert page.inner_text(".answer") == text
    assert page.inner_text(".question") == "<b>hello</b>"
    page.hover(".answer .t")
    assert "<i>suffix</i>" in page.inner_text("#card")
    assert page.title() == "Outrider"
    assert page.locator(":is(.answer, #card) :is(img, script, b, i)").count() == 0


def test_a_token_says_how_it_came_and_opens_the_draft_of_its_round(page):
    answers_with(page, *TREE_ANSWER)
    send(page, "hello")
    page.hover(".answer .o-suffix")
    card = page.inner_text("#card")
    for words in ("␣cat", "drafted: suffix", "61 %", "2: 2 of 4 drafted accepted"):
        assert words in card
    page.click(".answer .o-suffix")
    assert "4 tokens drafted, 2 accepted, 3 emitted" in page.inner_text("#tree header")
    assert page.locator("#tree .node.accepted text").all_text_contents() == ["␣cat", "␣sat"]
    assert page.locator("#tree .node.rejected text").all_text_contents() == ["␣dog", "␣ran"]
    assert page.locator("#tree .node.drawn.o-bonus text").all_text_contents() == ["."]
    assert page.locator("#tree .node.pending text").all_text_contents() == ["The"]
    assert page.locator("#tree .edge").count() == 5
    assert page.locator(".t.marked").all_inner_texts() == [" cat", " sat", "."]
    assert "Rejected: ␣dog ␣ran" in page.get_attribute("#tree svg", "aria-label")
    page.click("#tree .previous")
    assert "Nothing was drafted" in page.inner_text("#tree")
    page.click("#tree .close")
    assert page.is_hidden("#tree")


def test_the_keyboard_alone_will_do(page):
    answers_with(page, *TREE_ANSWER)
    until(page, "document.activeElement.id === 'message'")
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    page.wait_for_selector("#send:not(.stop)")
    assert page.inner_text(".question") == "one\ntwo"
    page.focus(".answer .t")  # the one stop of the Tab key in an answer
    assert page.locator(".answer .t[tabindex='0']").count() == 1
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "␣sat" in page.inner_text("#card")
    page.keyboard.press("Enter")
    assert page.is_visible("#tree")
    page.focus("#tree .close")
    page.keyboard.press("ArrowLeft")
    assert "Round 1" in page.inner_text("#tree")
    page.keyboard.press("Escape")
    assert page.is_hidden("#tree")
    page.focus("#tab-chat")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#race")


def test_stop_keeps_what_there_is_and_frees_the_row(page, http):
    choose(page, max_tokens="4000", temperature="1", seed="1")
    send(page, "abc")
    until(page, "document.querySelectorAll('.answer .t').length > 5")
    page.click("#send")
    page.wait_for_selector("#send:not(.stop)")
    assert "stopped" in page.inner_text(".about")
    assert len(page.inner_text(".answer")) > 3
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "more")
    assert len(sent.value.post_data_json["messages"]) == 3
    page.keyboard.press("Escape")
    page.wait_for_selector("#send:not(.stop)")


def test_what_is_refused_is_said_and_the_question_is_kept(open_page):
    page = open_page(harmless=("400",))
    choose(page, max_tokens="4")
    send(page, "a" * 5000)
    page.wait_for_selector("#notice:not([hidden])")
    assert "5002 tokens" in page.inner_text("#notice")
    assert page.input_value("#message") == "a" * 5000
    assert page.locator(".turn").count() == 0


def test_a_server_that_is_gone_is_said(open_page):
    page = open_page(harmless=("ERR_",))
    page.route("**/v1/chat/completions", lambda route: route.abort())
    send(page, "abc")
    page.wait_for_selector("#notice:not([hidden])")
    assert "the server does not answer" in page.inner_text("#notice")


def test_settings_are_sent_and_kept(page):
    choose(page, temperature="0.7", top_p="0.9", max_tokens="5", seed="3", speculate=False, system="be brief")
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "abc")
    body = sent.value.post_data_json
    wanted = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 5, "seed": 3, "speculative": False}
    assert {name: body[name] for name in wanted} == wanted
    page.wait_for_selector("#send:not(.stop)")
    assert page.locator(".answer .t").count() == page.locator(".answer .o-plain").count() == 5
    page.reload()
    page.click("#open-settings")
    assert page.input_value("#settings [name=temperature]") == "0.7"
    page.click("#reset-settings")
    assert page.input_value("#settings [name=temperature]") == ""
    assert page.is_checked("#settings [name=speculate]")


def test_a_drafter_of_the_server_and_the_length_of_drafts_can_be_chosen(open_page, address):
    page = open_page("about:blank")
    models = {"data": [{"id": "m", "outrider": {"drafter": "lookup", "drafters": ["lookup", "suffix", "none"]}}]}
    page.route("**/v1/models", lambda route: route.fulfill(json=models))
    answers_with(page, *TREE_ANSWER)
    page.goto(address)
    until(page, "document.querySelector('#model').textContent === 'm · lookup'")
    page.click("#open-settings")
    offered = page.locator("#settings [name=drafter] option").all_inner_texts()
    assert offered == ["lookup (the server's own)", "suffix"]
    page.select_option("#settings [name=drafter]", "suffix")
    page.fill("#settings [name=num_draft_tokens]", "3")
    page.click("#settings .primary")
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "abc")
    assert sent.value.post_data_json["speculative"] == {"drafter": "suffix", "num_draft_tokens": 3}
    page.wait_for_selector("#send:not(.stop)")
    choose(page, speculate=False)
    with page.expect_request("**/v1/chat/completions") as sent:
        send(page, "abc")
    assert sent.value.post_data_json["speculative"] is False
    page.wait_for_selector("#send:not(.stop)")


@pytest.mark.parametrize("order", ["turns", "together"])
def test_a_race_ends_with_the_same_text(page, order):
    choose(page, max_tokens="60")
    page.click("#tab-race")
    page.select_option("#race-order select", order)
    send(page, "abcabcabcabc")
    page.wait_for_selector("#send:not(.stop)")
    assert page.inner_text("#race-question") == "abcabcabcabc"
    verdict = page.inner_text("#race-verdict")
    assert "Both texts are the same, token for token" in verdict
    assert ("shared every pass" in verdict) == (order == "together")
    plain, speculative = page.locator(".lane .answer").all_inner_texts()
    assert plain == speculative
    assert page.locator("#lane-plain .o-plain").count() == 60
    assert page.locator("#lane-speculative .o-suffix").count() > 5
    assert "60 tokens in 60 passes" in page.inner_text("#lane-plain .about")


def test_a_race_is_timed_by_what_came_and_not_by_what_was_shown(page):
    """A busy page shows many tokens at once: here, all that come within a second."""
    page.evaluate("() => { window.requestAnimationFrame = (show) => setTimeout(() => show(), 1000); }")
    choose(page, max_tokens="60")
    page.click("#tab-race")
    send(page, "abcabcabcabc")
    page.wait_for_selector("#send:not(.stop)")
    plain, speculative = (float(figure) for figure in page.locator(".lane .figure strong").all_inner_texts())
    found = re.match(r"Speculation was (slower here, by )?([\d.]+) times", page.inner_text("#race-verdict"))
    assert found is not None
    ratio = 1 / float(found[2]) if found[1] else float(found[2])
    assert ratio == pytest.approx(speculative / plain, rel=0.05)  # each is rounded to be shown


def test_a_race_of_one_token_names_no_speed(page):
    choose(page, max_tokens="1")
    page.click("#tab-race")
    send(page, "abc")
    page.wait_for_selector("#send:not(.stop)")
    assert "too short to time" in page.inner_text("#race-verdict")


def test_a_key_is_asked_for_where_the_server_wants_one(open_page):
    with running(service(api_keys=("right",))) as address:
        page = open_page(address, harmless=("401",))
        assert page.is_hidden("#key-refused")
        page.fill("#key input", "wrong")
        page.click("#key .primary")
        until(page, "document.querySelector('#key input').value === ''")
        assert page.is_visible("#key-refused")
        page.fill("#key input", "right")
        page.click("#key .primary")
        until(page, "document.querySelector('#model').textContent === 'spoken · suffix'")
        ask(page, "abc")
        assert page.locator(".answer .t").count() == 60
        assert page.evaluate("Object.values(localStorage).join().includes('right')") is False


@pytest.mark.parametrize("width", [320, 768])
def test_narrow_screens_need_no_sideways_scrolling(open_page, width):
    page = open_page(width=width)
    answers_with(page, *TREE_ANSWER, ("x" * 300, [token("x" * 300, "plain")], []))
    send(page, "y" * 200)
    page.click(".answer .o-suffix")
    for tab in ("#tab-chat", "#tab-race"):
        page.click(tab)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.click("#tab-chat")
    assert not page.is_visible("#charts")
    page.click("#open-panel")
    until(page, "document.querySelector('#panel').getBoundingClientRect().right <= innerWidth + 1")
    assert page.is_visible("#charts")
    page.click("#close-panel")
    page.wait_for_selector("#charts", state="hidden")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_colours_can_be_told_from_what_is_behind_them(open_page, dark):
    page = open_page(dark=dark)

    def seen(selector, what, below):
        return page.evaluate(SEEN, [selector, what, below])

    paper = seen("body", "backgroundColor", "body")
    for kind in KINDS:
        swatch = f"#legend .o-{kind}"
        behind = seen(swatch, "backgroundColor", "#panel")
        assert contrast(seen(swatch, "color", "body"), behind) >= LEAST_CONTRAST
        if kind != "plain":
            assert contrast(seen(swatch, "textDecorationColor", "body"), paper) >= LEAST_GRAPHIC_CONTRAST
    for selector, below in (
        (".welcome p", "body"),
        (".chart h2", "#panel"),
        (".example", "body"),
        (".bar .quiet", ".bar"),
    ):
        assert contrast(seen(selector, "color", below), seen(below, "backgroundColor", "body")) >= LEAST_CONTRAST
    assert contrast(seen("#send", "color", "body"), seen("#send", "backgroundColor", "body")) >= LEAST_CONTRAST


def contrast(one, other):
    """WCAG's ratio of two colours, each (red, green, blue) from 0 to 255."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour):
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (c / 255 for c in colour)
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_light_and_dark_can_be_chosen(open_page):
    page = open_page(dark=True)
    body = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(body)
    page.click("#theme")
    light = page.evaluate(body)
    assert light != dark
    page.reload()
    assert page.evaluate(body) == light
