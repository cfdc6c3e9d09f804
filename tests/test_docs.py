"""The documentation keeps up: every setting, route and command is in it, and every link leads somewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from latency_tables.trust import FindingKind
from service.app import create_app
from service.settings import Settings
from tests.service.cli.test_commands import commands

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_explained_with_its_default(name: str) -> None:
    row = re.search(
        rf"^\| `BESPOKE_{name.upper()}` \| (.+?) \| (.+?) \|$", text_of("docs/operations.md"), re.M
    )
    assert row, f"docs/operations.md has no row for BESPOKE_{name.upper()}"
    default = Settings.model_fields[name].get_default(call_default_factory=True)
    shown = {"": "empty"}.get(str(default)) or f"`{_written(default)}`"
    assert row[1] == shown, f"the default of BESPOKE_{name.upper()} is {shown}"
    assert len(row[2]) > 20


def _written(value: object) -> str:
    if isinstance(value, bool | dict | tuple):
        return json.dumps(list(value) if isinstance(value, tuple) else value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def test_no_setting_is_explained_that_does_not_exist() -> None:
    known = {f"BESPOKE_{name.upper()}" for name in Settings.model_fields} | {"BESPOKE_URL", "BESPOKE_KEY"}
    known |= {"BESPOKE_AGENT_TOKEN", "BESPOKE_TEST_POSTGRES_URL", "BESPOKE_FAILPOINT"}
    for page in PAGES:
        unknown = set(re.findall(r"BESPOKE_[A-Z_]+[A-Z]", page.read_text())) - known
        assert not unknown, f"{page.name}: {unknown}"


def routes() -> list[tuple[str, str]]:
    app = create_app(Settings(data_dir=Path("unused")))
    calls = []
    for route in app.routes:
        methods, path, extra = (getattr(route, name, None) for name in ("methods", "path", "openapi_extra"))
        calls += [(f"{method} {path}", (extra or {})["x-scope"]) for method in sorted(methods or ())]
    return calls


@pytest.mark.parametrize(("call", "scope"), routes())
def test_every_route_is_documented_with_its_scope(call: str, scope: str) -> None:
    row = re.search(
        rf"^\| `{re.escape(call)}` \| .+ \| `{re.escape(scope)}` \|$", text_of("docs/api.md"), re.M
    )
    assert row, f"docs/api.md has no row `{call}` with scope `{scope}`"


def test_no_route_is_documented_that_does_not_exist() -> None:
    documented = set(
        re.findall(r"^\| `((?:GET|POST|PATCH|PUT|DELETE) \S+)` \|", text_of("docs/api.md"), re.M)
    )
    assert documented == {call for call, _ in routes()}


def test_every_command_is_documented_and_none_besides() -> None:
    listed = re.findall(r"^\| `bespoke ([^`]+)` \|", text_of("docs/commands.md"), re.M)
    documented = {tuple(word for word in line.split() if re.fullmatch(r"[a-z]+", word)) for line in listed}
    assert documented == set(commands())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_commands_shown_in_the_pages_exist(page: Path) -> None:
    first = {command[0] for command in commands()}
    for group, command in re.findall(r"`bespoke ([a-z]+)(?: ([a-z]+))?[^`]*`", page.read_text()):
        assert group in first, f"{page.name}: bespoke {group}"
        known = {c[1] for c in commands() if c[0] == group and len(c) > 1}
        assert not known or not command or command in known, f"{page.name}: bespoke {group} {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if not re.match(r"[a-z]+:", target):
            file = (page.parent / target.partition("#")[0]).resolve() if not target.startswith("#") else page
            assert file.exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_paths_of_the_tree_that_are_named_exist(page: Path) -> None:
    for path in re.findall(
        r"`((?:latency_tables|supernets|service|worker|benchmarks|tests|docker)/[\w./-]+)`", page.read_text()
    ):
        assert (ROOT / path).exists(), f"{page.name} names {path}"


NAMED_PAGE = re.compile(r"(?<![\w/.-])([\w./-]*\w\.md)\b")
WITHOUT_PAGE = re.compile(r"\bthreat list\b|\bDESIGN (?:let|says|proposed|wants)\b|\bthe brief\b")
WRITTEN_BY_PROGRAMS = {"report.md"}  # results of commands


def test_every_page_that_a_file_names_is_in_the_tree() -> None:
    dangling = {}
    for folder in ("latency_tables", "supernets", "service", "worker", "benchmarks", "tests", "docs", "."):
        found = (ROOT / folder).glob("*" if folder == "." else "**/*")
        for source in (
            path for path in found if path.suffix in (".py", ".md") and path.name != "test_docs.py"
        ):
            words = source.read_text(encoding="utf-8")
            places = (ROOT, ROOT / "docs", source.parent)
            named = {
                name
                for name in NAMED_PAGE.findall(words)
                if not any((place / name).exists() for place in places)
            }
            named |= set(WITHOUT_PAGE.findall(words))
            if named - WRITTEN_BY_PROGRAMS:
                dangling[str(source.relative_to(ROOT))] = sorted(named - WRITTEN_BY_PROGRAMS)
    assert not dangling, "name a page of docs/, or say the fact itself"


def test_no_page_names_a_path_of_some_machine() -> None:
    for page in PAGES:
        assert not re.search(r"/work/|/home/|/root/|C:\\\\", page.read_text()), page.name


BANNED = {
    r"\banew\b": "again, from the beginning",
    r"\btrained on (by|once|alone|for)\b": "fine-tuned",
    r"\b(goes|go|went) on (at|elsewhere|after|when|within)\b": "resumes, continues",
    r"\bwhat (it|that|this|they|a [\w -]{3,40}) (brings?|brought)\b|\bthan it brings\b": "how much it "
    "helps, gains",
    r"\bInstead of:": "Alternatives:",
    r"\bfor who (runs?|must)\b": "for those who",
    r"\b[Kk]ept are\b|\bis never\s+kept\b": "we keep … and never …",
    r"\bstands? in for itself\b": "a substitute is tested",
}


def prose(page: Path) -> str:
    """A page without its code; of the glossary what comes before the words we do not use."""
    text = page.read_text(encoding="utf-8").split("## Words we do not use")[0]
    return re.sub(r"```.*?```|`[^`\n]*`", "`code`", text, flags=re.S)


def found_in(text: str) -> list[str]:
    found = [(m, better) for pattern, better in BANNED.items() for m in re.finditer(pattern, text)]
    return [
        f"{' '.join(text[max(0, m.start() - 40) : m.end() + 20].split())!r}: say {better}"
        for m, better in found
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_pages_keep_to_the_glossary(page: Path) -> None:
    """docs/glossary.md lists the words that we do not use."""
    assert found_in(prose(page)) == []


@pytest.mark.parametrize(
    "sentence",
    [
        "the chosen network is trained on by itself",
        "It is measured anew.",
        "its jobs go on elsewhere",
        "shows what a short fine-tuning brings",
        "- Instead of: a cache",
        "operations.md is for who runs it",
    ],
)
def test_the_words_we_do_not_use_are_found(sentence: str) -> None:
    assert len(found_in(sentence)) == 1
    assert found_in("networks trained on ImageNet resume after the last epoch; it keeps going on") == []


def test_the_glossary_explains_each_term_once_and_names_what_exists() -> None:
    rows = re.findall(r"^\| ([a-z][\w ,()-]+) \| (.+) \|$", text_of("docs/glossary.md"), re.M)
    terms = [term for row, _ in rows for term in row.split(", ")]
    assert len(terms) > 30 and len(set(terms)) == len(terms)
    for _, meaning in rows:
        for path in re.findall(r"`((?:latency_tables|supernets|service|worker)/[\w/.]+)`", meaning):
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    """A path of the repository in code quotes: a file or a folder of one of its packages, tests, docs or
    benchmarks."""
    rooms = "latency_tables|supernets|service|worker|tests|docs|benchmarks"
    named = re.findall(rf"`((?:{rooms})/[\w/.]*\w)/?`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_fifteen_questions_of_a_newcomer_are_answered() -> None:
    table = text_of("docs/architecture.md").split("## Where a newcomer finds it")[1]
    rows = re.findall(r"^\| (.+\?) \| (.+) \|$", table, re.M)
    assert len(rows) == 15
    for question, answer in rows:
        assert "`" in answer or "](" in answer, question
        for name, file in re.findall(r"`([A-Z]\w+)`[^`]* in `([\w/.]+)`", answer):
            assert name in (ROOT / file).read_text(encoding="utf-8"), f"{file} does not define {name}"


def test_the_page_of_the_architecture_names_every_folder_of_the_rooms() -> None:
    table = text_of("docs/architecture.md").split("**A row of the latency table**")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", table, re.M))
    for room in ("latency_tables", "supernets", "service", "worker"):
        folders = {p.name for p in (ROOT / room).iterdir() if p.is_dir() and p.name != "__pycache__"}
        named = set(re.findall(r"`(\w+)`", rows[room]))
        assert folders <= named, f"docs/architecture.md does not name {sorted(folders - named)} of {room}"


@pytest.mark.parametrize("kind", list(FindingKind), ids=str)
def test_every_finding_says_what_to_do(kind: FindingKind) -> None:
    table = text_of("docs/devices.md").split("## When a table is not believed")[1].split("\n## ")[0]
    assert f"`{kind}`" in table
