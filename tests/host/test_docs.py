"""The pages for people: who needs them and a command first, lines that fit, links and commands that lead somewhere."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from threestudio.plugins import REPOSITORY
from threestudio.registry import registered_names
from threestudio.utils.config_files import config_file

LINE_LENGTH = 100
OPENING_LINES = 12
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in [
        *REPOSITORY.glob("*.md"),
        *sorted((REPOSITORY / "docs").glob("*.md")),
        *REPOSITORY.glob("integrations/*/*.md"),
    ]
}
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"```\w*\n(.*?)```|`([^`\n]+)`", re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
URL = re.compile(r"https?://[^\s)>]+")
COMMAND = re.compile(r"(^|\n|bin/)(python|make|pytest|import|from|\.ci/run)\b")
READER = re.compile(
    r"\b(is|are) for\b|\bfor (you|people|anyone|everyone|those)\b|\b(if|when) you\b|\byou (need|want)\b"
    r"|\bwhoever\b|\banyone who\b|\bwho needs\b|^for \w",
    re.IGNORECASE,
)
PATH = re.compile(r"(?:configs|custom|data|docs|tests|threestudio)/[\w./-]+")

every_page = pytest.mark.parametrize("page", PAGES)


def long_lines(text: str) -> list[str]:
    """Lines of prose that are too long: no tables, no code blocks, addresses not counted."""
    lines = FENCE.sub("", text).splitlines()
    return [line for line in lines if not line.startswith("|") and len(URL.sub("", line)) > LINE_LENGTH]


def code_of(text: str) -> list[str]:
    """Code blocks and inline code, in their order."""
    return [block or inline for block, inline in CODE.findall(text)]


def opening_faults(text: str) -> list[str]:
    """What the first lines of a page lack."""
    first = "\n".join(text.splitlines()[:OPENING_LINES])
    if first.count("```") % 2:
        first += "\n```"
    prose = CODE.sub("", first).replace("\n", " ")
    faults = []
    if not any(READER.search(sentence.strip()) for sentence in re.split(r"(?<=[.:!?])\s", prose)):
        faults.append("a sentence that says who the page is for")
    if not any(COMMAND.search(code) for code in code_of(first)):
        faults.append("a command")
    return faults


def anchors(text: str) -> set[str]:
    """What a link may name after ``#``: headings, as GitHub writes them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_there(path: Path) -> bool:
    """Whether a path is in the repository, or will be."""
    if not path.is_relative_to(REPOSITORY):
        return False
    return path.exists()


def dead_links(page: str, text: str) -> Iterator[str]:
    """Relative links that lead nowhere, be it the file or the heading in it."""
    here = REPOSITORY / page
    for target in LINK.findall(FENCE.sub("", text)):
        if URL.match(target):
            continue
        name, _, anchor = target.partition("#")
        path = (here.parent / name).resolve() if name else here
        if not is_there(path):
            yield target
        elif anchor and path.suffix == ".md" and path.exists():
            if anchor not in anchors(text if path == here else path.read_text(encoding="utf-8")):
                yield target


def words_after(option: str, text: str) -> set[str]:
    """What stands after an option in code, continued lines joined; placeholders in capitals or brackets left out."""
    code = "\n".join(code_of(text)).replace("\\\n", " ")
    words = set(re.findall(rf"{option}[ =]+(\S+)", code))
    return {word for word in words if not re.search(r"\b[A-Z]+\b", word) and word[0] not in "<$[-"}


@every_page
def test_lines_fit(page):
    assert not long_lines(PAGES[page])


@every_page
def test_a_page_opens_with_its_reader_and_a_command(page):
    assert not opening_faults(PAGES[page]), f"missing in the first {OPENING_LINES} lines of {page}"


@every_page
def test_links_lead_to_files(page):
    assert not list(dead_links(page, PAGES[page]))


@every_page
def test_paths_in_code_exist(page):
    paths = {code for code in code_of(PAGES[page]) if PATH.fullmatch(code)}
    assert not {path for path in paths if not is_there(REPOSITORY / path)}


@every_page
def test_commands_name_configs_apps_and_targets(page):
    text = PAGES[page]
    missing = {path for path in words_after("--config", text) if not config_file(path).is_file()}
    assert not missing, "no such config"
    apps = {name.removeprefix("app-") for name in registered_names("app-")}
    assert not words_after("--run", text) - apps, "no such app"
    targets = set(re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    made = {word for code in code_of(text) for word in re.findall(r"^make ([\w-]+)", code, re.MULTILINE)}
    assert not made - targets, "no such target of make"


def test_the_index_lists_every_page():
    listed = {target.partition("#")[0] for target in LINK.findall(PAGES["docs/README.md"])}
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} - {"README.md"}
    assert pages <= listed


def test_faults_of_a_page_are_seen():
    good = "# Title\n\nThis page is for you.\n\n```\npython launch.py --help\n```\n"
    assert not opening_faults(good)
    assert not opening_faults("# Title\n\nIt is for those who\nbuild: `make edit` starts.\n")
    assert opening_faults("# Title\n\nIt works well. `make edit`\n") == ["a sentence that says who the page is for"]
    assert opening_faults("# Title\n\nThis page is for you. `mask.text` is a key.\n") == ["a command"]
    assert opening_faults("# Title\n\n" + "It is so.\n" * OPENING_LINES + good) != []
    assert long_lines("x" * 101 + "\n| " + "x" * 101 + "\n```\n" + "x" * 101 + "\n```\n" + "x" * 99) == ["x" * 101]
    assert not long_lines("x" * 90 + " https://example.org/" + "x" * 40)
    text = "# One title!\n[a](#one-title) [b](#two) [c](none.md) [d](https://example.org) [e](../LICENSE) [f](../..)"
    assert list(dead_links("docs/README.md", text)) == ["#two", "none.md", "../.."]
    text = "`--run NAME`, `--run sweep`, `--run <name>` and\n```\nlaunch.py \\\n  --run \\\n  preview\n```\n"
    assert words_after("--run", text) == {"sweep", "preview"}
