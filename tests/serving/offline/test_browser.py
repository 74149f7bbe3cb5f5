"""A page in a browser makes what Python makes, from the same seeds, and says in a line what it cannot."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from browsers import browser
from unistep.cli.bench_page import folder_served, isolated
from unistep.core.condition import parse_condition
from unistep.core.seeding import ItemGenerators, derived_seed, normal
from unistep.core.text_fields import TextField
from unistep.generation.requests import Request
from unistep.hub.onnx_texts import export_text
from unistep.provenance import read_file
from unistep.text.encoder import load_text_encoder

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--renderer-process-limit=1",
]
TEXTS = (
    "a smiling cat with heart-eyes",
    "Ünïcödé, naïve CAFÉ!  tabs\tand\nlines",
    "snowman ☃ 漢字 — “quotes” … $5+5=10 <tag>",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "e\u0301 zero\u200bwidth \ufffd \x07 x" + "y" * 120,
    "don't can't 3.14 #hash @at 👍🏽 family 👨‍👩‍👧",
)


@pytest.fixture(scope="module")
def tab(runnable: Path) -> Iterator[Any]:
    with folder_served(runnable) as address, browser((*FLAGS, "--autoplay-policy=no-user-gesture-required")) as found:
        page = found.new_page()
        page.set_default_timeout(60_000)
        page.complaints, page.address = [], address
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on(
            "request",
            lambda request: request.url.startswith((address, "blob:", "data:")) or page.complaints.append(request.url),
        )
        isolated(page, f"{address}/wall.html")
        yield page
        page.close()


def call(tab: Any, kind: str, body: dict[str, Any]) -> Any:
    """What the page's worker makes of a request; blobs and arrays as bytes."""
    return tab.evaluate(
        """async ([kind, body]) => {
          const { call } = await import(new URL("lib/local/client.js", location.href));
          const text = (bytes) => btoa(bytes.reduce((all, byte) => all + String.fromCharCode(byte), ""));
          const plain = async (each) => each.blob
            ? { ...each, blob: text(new Uint8Array(await each.blob.arrayBuffer())) }
            : { ...each, samples: text(new Uint8Array(each.samples.buffer)) };
          try {
            const found = await call(kind, body);
            return Array.isArray(found) ? Promise.all(found.map(plain)) : plain(found);
          } catch (error) { return { error: error.message }; }
        }""",
        [kind, body],
    )


def test_pictures_are_those_of_the_same_seeds_and_say_so(
    tab: Any, runnable: Path, models: dict[str, Any], tmp_path: Path
) -> None:
    from PIL import Image

    found = call(tab, "pictures", {"model": "pictures", "seed": 11, "n": 3, "condition": {"label": "b"}})
    wanted = models["pictures"].sample(3, seed=11, steps=1, label="b")
    for at, picture in enumerate(found):
        path = tmp_path / f"{at}.png"
        path.write_bytes(base64.b64decode(picture["blob"]))
        pixels = torch.from_numpy(np.asarray(Image.open(path).convert("RGB")).copy()).permute(2, 0, 1) / 127.5 - 1
        assert float((pixels - wanted[at].clamp(-1, 1)).abs().max()) < 1 / 127  # half a level of 8 bits, and rounding
        mark = read_file(path).mark
        assert mark is not None
        assert mark.generated
        assert (mark.model, mark.seed, mark.condition) == ("pictures", str(11 + at), {"label": "b"})
        assert mark.model_hash == json.loads((runnable / "models" / "0" / "model.json").read_text())["hash"]


def numbers(tab: Any, body: dict[str, Any]) -> np.ndarray:
    """The first channel of a sample as numbers, which requests for sounds give."""
    found = call(tab, "sound", {"model": "pictures", **body})
    return np.frombuffer(base64.b64decode(found["samples"]), dtype=np.float32)


def test_samples_agree_and_conditions_that_are_not_given_are_those_of_the_seed(
    tab: Any, models: dict[str, Any]
) -> None:
    for given in ({}, {"size": 100.0}, {"label": "c", "size": 1.0}):
        wanted = models["pictures"].sample(seed=5, steps=1, **given)[0, 0].flatten().numpy()
        np.testing.assert_allclose(numbers(tab, {"seed": 5, "condition": given}), wanted, atol=1e-3)


def test_a_walk_goes_where_the_server_goes(tab: Any, models: dict[str, Any]) -> None:
    wanted = models["pictures"].sample_requests([Request(seed=5, toward=(6, 0.3), steps=1)])[0, 0].flatten().numpy()
    np.testing.assert_allclose(numbers(tab, {"seed": 5, "toward": {"seed": 6, "share": 0.3}}), wanted, atol=1e-3)


def test_mistakes_are_one_line(tab: Any) -> None:
    line = call(tab, "pictures", {"model": "pictures", "condition": {"label": "z"}})["error"]
    assert line == "label must be one of a, b, c, got z."
    line = call(tab, "pictures", {"model": "pictures", "condition": {"size": 1000}})["error"]
    assert line == "size must be from 1 to 127, got 1000."
    assert call(tab, "pictures", {"model": "nobody"})["error"].startswith(
        "There is no model nobody here; there are pictures,"
    )


def test_random_numbers_are_those_of_pytorch(tab: Any) -> None:
    found = tab.evaluate(
        """async () => {
          const { Generator, derivedSeed } = await import(new URL("lib/local/random.js", location.href));
          const generator = new Generator(derivedSeed("label", 7));
          const first = [...generator.normal(100)], number = generator.integer(1000), share = generator.uniform();
          return { seeds: [derivedSeed("chunk", 3, 12), derivedSeed("x".repeat(300))].map(String), first, number, share,
                   second: [...generator.normal(16)],
                   few: [1, 15, 20, 2].map((count) => [...generator.normal(count)]) };
        }"""
    )
    assert found["seeds"] == [str(derived_seed("chunk", 3, 12)), str(derived_seed("x" * 300))]
    generator = ItemGenerators([derived_seed("label", 7)])
    np.testing.assert_allclose(found["first"], normal((1, 100), generator)[0].numpy(), atol=3e-6)
    one = generator.items[0]
    assert found["number"] == int(torch.randint(1000, (1,), generator=one))
    assert found["share"] == pytest.approx(float(torch.rand((1,), generator=one)))
    np.testing.assert_allclose(found["second"], normal((1, 16), generator)[0].numpy(), atol=3e-6)
    for numbers_found in found["few"]:  # PyTorch draws fewer than 16 in another way
        wanted = normal((1, len(numbers_found)), generator)[0].numpy()
        np.testing.assert_allclose(numbers_found, wanted, atol=3e-6)


def test_sounds_of_several_channels_have_them_in_turn(tab: Any) -> None:
    found = tab.evaluate(
        """async () => {
          const { pcm } = await import(new URL("lib/local/files.js", location.href));
          return [...new Int16Array(pcm(Float32Array.of(1, 0, -1, 0.5, 0.5, 0.5), 2))];
        }"""
    )
    assert found == [32767, 16384, 0, 16384, -32767, 16384]


def test_a_world_is_played(tab: Any) -> None:
    tab.goto(f"{tab.address}/world.html")
    tab.click("#start")
    tab.wait_for_function("Number(document.getElementById('screen').dataset.drawn) > 3")
    tab.keyboard.down("ArrowUp")
    tab.wait_for_function("Number(document.getElementById('screen').dataset.interaction) > 0")
    tab.keyboard.up("ArrowUp")
    figures = tab.evaluate("({ ...document.documentElement.dataset })")
    assert figures["engine"].startswith("WebAssembly")
    assert float(figures["difference"]) < 1e-3
    tab.click("#stop")
    assert tab.complaints == []


WORKERS = "navigator.serviceWorker.getRegistrations().then((found) => found.length)"


@pytest.mark.parametrize("other", ["another.html", "gone.html"])
def test_what_isolates_a_page_ends_once_something_else_is_at_its_address(tab: Any, runnable: Path, other: str) -> None:
    context = tab.context.browser.new_context()
    page = context.new_page()
    isolated(page, f"{tab.address}/wall.html")
    assert page.evaluate(WORKERS) == 1
    another = runnable / "another.html"
    another.write_text("<!doctype html><title>Another</title><p>Another page.")
    try:
        page.goto(f"{tab.address}/{other}")
        assert not page.evaluate("window.crossOriginIsolated")
        page.wait_for_function(f"{WORKERS}.then((count) => count === 0)")
    finally:
        another.unlink()
        context.close()


def test_opened_as_a_file_it_says_how_to_open_it(tab: Any, runnable: Path) -> None:
    other = tab.context.browser.new_page()
    other.goto((runnable / "wall.html").as_uri())
    assert "from a web server only: python -m http.server" in other.inner_text("main .notice")
    other.close()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _date(path: Path, date: int) -> None:
    if path.exists():
        os.utime(path, (date, date))


BROKEN: tuple[tuple[str, Callable[[Path], None], str], ...] = (
    ("models/models.json", _cut, "/models/models.json is not complete: copy the whole folder."),
    ("models/1/model.json", Path.unlink, "/models/1/model.json is missing: copy the whole folder."),
    ("models/0/check.bin", Path.unlink, "/models/0/check.bin is missing: copy the whole folder."),
    ("models/0/model.onnx", _cut, "/models/0/model.onnx is shorter than the page expects: copy the whole folder."),
    ("ort/ort.wasm.min.mjs", Path.unlink, "ort/ort.wasm.min.mjs is missing: copy the whole folder."),
    (
        "ort/ort-wasm-simd-threaded.wasm",
        _cut,
        "ONNX Runtime does not start: a file of ort/ is damaged, or memory is short.",
    ),
)
"""Files in the order in which a page needs them, what happens to them, and what the page says."""


def test_what_is_broken_is_named_and_can_be_tried_again(tab: Any, runnable: Path) -> None:
    whole = {name: (runnable / name).read_bytes() for name, _, _ in BROKEN}
    start = int((runnable / BROKEN[0][0]).stat().st_mtime)
    try:
        for name, damage, _ in BROKEN:
            damage(runnable / name)
            _date(runnable / name, start)
        page = tab.context.browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(f"{tab.address}/wall.html?model=pictures")
        for name, _, line in BROKEN:
            page.locator("#notice p", has_text=line).wait_for()
            (runnable / name).write_bytes(whole[name])
            # Some copies keep the dates, and servers name them in seconds; what ONNX Runtime loads it loads by itself.
            _date(runnable / name, start + (2 if name.startswith("ort/") else 0))
            page.get_by_role("button", name="Try again").click()
        page.wait_for_selector("#tiles[aria-busy=false]")
        assert page.locator("#notice").is_hidden()
        assert "pictures: WebAssembly" in page.inner_text("#engine")
        page.close()
    finally:
        for name, content in whole.items():
            (runnable / name).write_bytes(content)


def test_an_export_without_webgpu_runs_where_there_is_a_graphics_card(tab: Any) -> None:
    page = tab.context.browser.new_page()
    page.goto(f"{tab.address}/wall.html?backend=webgpu")
    page.wait_for_selector("#tiles[aria-busy=false]", timeout=60_000)
    assert "pictures: WebAssembly" in page.inner_text("#engine")
    page.close()


@pytest.fixture
def plain(tab: Any) -> Any:
    """A tab of a browser that allows neither storage nor service workers."""
    context = tab.context.browser.new_context(service_workers="block")
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.add_init_script(
        """for (const name of ["sessionStorage", "localStorage"])
          Object.defineProperty(window, name, { get() { throw new DOMException("forbidden", "SecurityError"); } });"""
    )
    yield page
    context.close()


def test_a_model_that_is_on_its_way_holds_up_no_other(tab: Any, plain: Any) -> None:
    held: list[Any] = []
    plain.context.route("**/models/0/model.onnx", lambda route: held.append(route))  # Playwright marks the function
    plain.goto(f"{tab.address}/world.html")
    plain.wait_for_selector("body[data-ready]")
    plain.evaluate(
        """async () => {
          const { call } = await import(new URL("lib/local/client.js", location.href));
          const answered = (name) => () => (document.body.dataset[name] = "");
          const controller = new AbortController();
          call("pictures", { model: "pictures" }, controller.signal).catch(answered("dropped"));
          controller.abort();
          call("pictures", { model: "pictures" }).then(answered("late"));
        }"""
    )
    plain.click("#start")
    plain.wait_for_function("Number(document.getElementById('screen').dataset.drawn) > 1")
    assert plain.evaluate("'dropped' in document.body.dataset && !('late' in document.body.dataset)")
    assert "1 thread," in plain.inner_text("#engine")
    assert len(held) == 1
    held[0].continue_()
    plain.wait_for_selector("body[data-late]")


def test_texts_have_the_numbers_and_vectors_that_python_gives_them(tab: Any, runnable: Path) -> None:
    pytest.importorskip("tokenizers")
    encoder = load_text_encoder("minilm")
    program = encoder.program()
    folder = runnable / "models" / "text"
    folder.mkdir()
    export_text(program, folder / "text.onnx")
    (folder / "tokenizer.json").write_text(json.dumps(dict(program.tokenizer)))
    size = (folder / "text.onnx").stat().st_size
    field = TextField(dim=384, length=8)
    found = tab.evaluate(
        """async ([texts, size, length]) => {
          const at = (path) => new URL(path, location.href);
          const { TextEncoder } = await import(at("lib/local/texts.js"));
          const { openRuntime } = await import(at("lib/local/runtime.js"));
          const inputs = { text_tokens: { shape: [length, 384] }, text_mask: { shape: [length] } };
          const text = { network: "text.onnx", tokenizer: "tokenizer.json", bytes: size };
          const fields = { text: { tensors: ["text_tokens", "text_mask"] } };
          const encoder = new TextEncoder({ folder: at("models/text/"), text, inputs, fields });
          const asked = new URLSearchParams("backend=wasm");
          await encoder.open(await openRuntime({ asked, isolated: false }), await encoder.fetch(() => {}));
          const ids = texts.map((each) => encoder.tokenizer.encode(each));
          const { text_tokens: tokens, text_mask: mask } = await encoder.encode("text", texts[0]);
          const said = (text) => encoder.encode("text", text).catch((error) => error.message);
          const refused = [await said("ꙮ"), await said("cat ".repeat(300))];
          return { ids, tokens: [...tokens], mask: [...mask], refused };
        }""",
        [list(TEXTS), size, 8],
    )
    assert found["refused"] == [
        "text has no word that the model knows: ꙮ",
        "text must have at most 1,000 characters, got 1,200: cat cat cat cat cat cat cat ca…",
    ]
    for text, ids in zip(TEXTS, found["ids"], strict=True):
        assert ids == encoder._tokenizer.encode(text).ids, text  # type: ignore[attr-defined]
    wanted = parse_condition({"text": field}, {"text": TEXTS[0]}, 1)["text"].tensors
    np.testing.assert_allclose(np.array(found["tokens"]).reshape(8, 384), wanted["tokens"][0].numpy(), atol=1e-4)
    assert [bool(value) for value in found["mask"]] == wanted["mask"][0].tolist()
