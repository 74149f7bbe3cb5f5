"""The documentation is true: its Python runs, and its links lead somewhere.

Every ```python block of ``README.md`` and ``docs/*.md`` runs in a namespace of its own, in a folder that holds nothing
but ``my_pictures``. Two comments on the line above a block change that: ``<!-- continues -->`` runs it after the block
before it, in the same namespace, and ``<!-- not run: REASON -->`` leaves it out, for what needs a download or hours.
Items whose code loads a shipped model have ``zoo`` in their name.
"""

from __future__ import annotations

import re
import runpy
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from unistep.data.sources.fashion import FashionMnist

ROOT = Path(__file__).parent.parent
PAGES = [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))) if page.is_file()]
FENCE = re.compile(r"^```python[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
REMARK = re.compile(r"<!--\s*((?:(?!-->).)*?)\s*-->\s*\Z", re.DOTALL)
REASON = re.compile(r"not run: .{10,}", re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|(?:src|href)=\"([^\"]+)\"")


@dataclass(frozen=True, kw_only=True)
class Example:
    """Blocks that run one after another."""

    page: Path
    line: int
    """Line of the first block's first line of code, from 1."""
    code: str
    """The code, on the lines that it has in the page."""

    @property
    def name(self) -> str:
        shipped = re.search(r"load\(\"(fashion|fashion-teacher)\"|teacher=\"fashion-teacher\"", self.code)
        return f"{self.page.stem}-line{self.line}" + ("-zoo" if shipped else "")


def examples(page: Path) -> list[Example]:
    """The examples of a page."""
    text = page.read_text(encoding="utf-8")
    found: list[Example] = []
    for match in FENCE.finditer(text):
        above = REMARK.search(text[: match.start()])
        remark = above[1] if above else ""
        if REASON.fullmatch(remark):
            continue
        before = text[: match.start(1)].count("\n")
        if remark == "continues":
            assert found, f"{page.name}, line {before}: there is no block to continue"
            last = found.pop()
            code = last.code + "\n" * (before - last.code.count("\n")) + match[1]
            found.append(Example(page=page, line=last.line, code=code))
        else:
            found.append(Example(page=page, line=before + 1, code="\n" * before + match[1]))
    return found


def prose(page: Path) -> str:
    """The page without code."""
    text = re.sub(r"^```.*?^```[ \t]*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```[ \t]*$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def targets(page: Path) -> list[str]:
    """What a page links to within the project."""
    found = [first or second for first, second in LINK.findall(prose(page))]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def draw_pictures(folder: Path) -> None:
    """The reader's own pictures: a few of several sizes, in two classes."""
    for number in range(8):
        path = folder / ("dark" if number % 2 else "light") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40 + number, 30), (255 - 120 * (number % 2), 20 * number, 40)).save(path)


@pytest.fixture(scope="session")
def docs_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache of prepared data for all examples."""
    return tmp_path_factory.mktemp("docs-cache")


@pytest.fixture
def _few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled pictures are the first thousand, as the features of all take longer than what an example shows."""
    for name in ("images", "labels"):
        whole = getattr(FashionMnist, name)
        monkeypatch.setattr(FashionMnist, name, lambda self, whole=whole: whole(self)[:1000])


@pytest.mark.usefixtures("_few_pictures")
@pytest.mark.parametrize(
    "example", [pytest.param(example, id=example.name) for page in PAGES for example in examples(page)]
)
def test_the_python_in_the_docs_runs(
    example: Example, tmp_path: Path, docs_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_pictures(tmp_path / "my_pictures")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("UNISTEP_CACHE", str(docs_cache))
    code = compile(example.code, str(example.page), "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_within_the_project_resolve(page: Path) -> None:
    for target in targets(page):
        path, _, anchor = unquote(target).partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}, which does not exist"
        assert linked.is_relative_to(ROOT), f"{page.name} links to {target}, outside the project"
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), f"{page.name} links to {target}, but {linked.name} has no such heading"


@pytest.mark.parametrize("section", ["tutorials", "howto", "reference", "explanation", "methods"])
def test_the_index_of_a_section_names_every_page(section: str) -> None:
    folder = ROOT / "docs" / section
    pages = {page.name for page in folder.glob("*.md")} - {"index.md"}
    assert pages
    assert pages <= set(targets(folder / "index.md"))


def test_the_first_page_leads_to_every_section_and_the_research_notes() -> None:
    linked = set(targets(ROOT / "docs" / "index.md"))
    sections = {f"{folder}/index.md" for folder in ("tutorials", "howto", "reference", "explanation", "methods")}
    assert {*sections, "gallery.md", "research/experiments.md"} <= linked


def test_the_pages_of_methods_are_what_their_docstrings_say() -> None:
    """Run ``python docs/build_methods.py`` when this fails."""
    written = runpy.run_path(str(ROOT / "docs" / "build_methods.py"))["pages"]()
    assert written == {page.name: page.read_text() for page in (ROOT / "docs" / "methods").glob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_remarks_on_blocks_are_understood(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        above = REMARK.search(text[: match.start()])
        assert above is None or above[1] == "continues" or REASON.fullmatch(above[1]), f"{page.name}: {above[1]!r}"


def test_code_is_found_with_its_line_and_its_remarks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A\n\n```python\na = 1\n```\n\ntext\n<!-- continues -->\n```python\nassert a == 1\n```\n"
        "<!-- not run: it takes many hours -->\n```python\nraise SystemExit\n```\n```python\nb = a\n```\n"
    )
    chain, alone = examples(page)
    assert (chain.line, alone.line) == (4, 17)
    exec(chain.code, {})
    with pytest.raises(NameError) as caught:
        exec(compile(alone.code, str(page), "exec"), {})
    assert caught.traceback[-1].lineno == 16  # counted from 0
