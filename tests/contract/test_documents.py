"""The documents: what they name exists."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import botocore.session
import pytest
from botocore import xform_name
from markdown_it import MarkdownIt

from operate import cli

from . import permissions
from .shipped import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

DOCUMENTS = sorted(
    [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md"), REPOSITORY / "local/README.md"]
)

TESTS = {
    name
    for file in (REPOSITORY / "tests").rglob("test_*.py")
    for name in re.findall(r"^def (test_\w+)", file.read_text(), flags=re.M)
}


def test_every_threat_has_a_test_that_exists() -> None:
    rows = re.findall(r"^\| (.+) \|$", (REPOSITORY / "docs/security.md").read_text(), flags=re.M)
    threats = [row for row in rows if not row.startswith(("Threat |", "With |", "--- |"))]

    assert len(threats) > 25
    for threat in threats:
        named = re.findall(r"`(test_\w+)`", threat.rpartition(" | ")[2])
        assert named, threat
        assert set(named) <= TESTS, threat


def test_whatever_the_page_about_faults_says_is_shown_by_tests_that_exist() -> None:
    text = (REPOSITORY / "docs/faults.md").read_text()
    written = text.partition("## Overlap")[2].partition("<!-- Made by")[0]
    named = set(re.findall(r"`(test_\w+)`", written))

    assert len(named) > 10
    assert named <= TESTS
    for row in re.findall(r"^\| ([^|]+) \|[^|]+\|([^|]+)\|$", written, flags=re.M)[2:]:
        assert "`" in row[1] or "stories" in row[1], row
    for file in re.findall(r"`(tests/\S+\.py)`", written):
        assert (REPOSITORY / file).is_file(), file


def test_the_permissions_are_those_of_the_templates_and_the_code() -> None:
    assert permissions.DOCUMENT.read_text() == permissions.document(), "run: make permissions"
    assert permissions.SECURITY.read_text() == permissions.security(), "run: make permissions"


def test_each_action_of_a_function_is_used_where_the_document_says() -> None:
    nowhere = [
        line
        for line in permissions.document().splitlines()
        if line.startswith("| `") and "the service itself" in line
    ]
    by_service = re.compile(
        r"`(logs:|states:|dynamodb:(DescribeStream|ListStreams)|sqs:|s3:GetObject|iam:GetAccountSum)"
    )
    assert [line for line in nowhere if not by_service.match(line[2:])] == []


def test_packages_are_pinned_by_their_hashes() -> None:
    for name in ("requirements-dev.txt", "requirements-checks.txt", "functions/requirements.txt"):
        text = (REPOSITORY / name).read_text().replace("\\\n", "")
        packages = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert packages
        for line in packages:
            assert re.match(r"[\w.\[\]-]+==\S+.*--hash=sha256:[0-9a-f]{64}", line), line
    for name in ("Makefile", "functions/Makefile"):
        assert "--require-hashes" in (REPOSITORY / name).read_text()


# -- links and commands ---------------------------------------------------------------------------


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_to_a_file_and_a_heading_that_are_there(document: Path) -> None:
    for link in links(document):
        if link.startswith("https://"):
            assert urlsplit(link).hostname, link
            continue
        path, _, heading = link.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), link
        if heading:
            assert heading in headings(file), link


def test_every_document_can_be_reached_from_the_first_one() -> None:
    seen: set[Path] = set()
    todo = [REPOSITORY / "README.md"]
    while todo:
        document = todo.pop()
        seen.add(document)
        found = {(document.parent / link.partition("#")[0]).resolve() for link in links(document)}
        todo += [file for file in found - seen if file.suffix == ".md" and file.is_file()]

    assert {document.resolve() for document in DOCUMENTS} <= seen


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_command_is_one_that_its_program_knows(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (REPOSITORY / "Makefile").read_text(), flags=re.M))
    for program, words in commands(document):
        if program == "make":
            assert {word for word in words if re.fullmatch("[a-z-]+", word)} <= targets, words
        elif program == "rootsweep":
            assert words[0] in {*cli.commands.commands, "--help"}, words
        else:
            assert known_to_aws(*words), words


def links(document: Path) -> list[str]:
    """Where its links lead, and its pictures."""
    parsed = MarkdownIt().parse(document.read_text())
    inside = [child for token in parsed for child in token.children or []]
    found = [each.attrGet("href") or each.attrGet("src") for each in inside]
    return [str(link) for link in found if link]


def headings(document: Path) -> set[str]:
    """Its headings as GitHub spells them in an address."""
    text = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.M | re.S)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, flags=re.M)
    }


def commands(document: Path) -> list[tuple[str, list[str]]]:
    """The programs in its blocks for a shell, each with its first words and its options."""
    written = document.read_text()
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", written, flags=re.M | re.S)
    # And those in the midst of a sentence.
    inline = re.findall(r"(?<!`)`((?:aws|make|rootsweep) [^`\n]+)`(?!`)", written)
    text = "\n".join([*blocks, *inline]).replace("\\\n", " ")
    # One in another's place, like "$(aws ...)", is one as well.
    inner = re.compile(r"\$\(([^()]*)\)")
    while found := inner.search(text):
        text = text.replace(found[0], "X") + "\n" + found[1]
    lines = re.findall(r"(?:^|&& |\| |; |do |\{ )\s*(aws|make|rootsweep) ([^\n|;#&]*)", text, re.M)
    return [(program, re.findall(r"(?<!\S)(?:--)?[a-z][\w.-]*", rest)) for program, rest in lines]


# What the AWS CLI makes of several calls, or calls otherwise than the service does.
OF_THE_CLI = {
    ("cloudformation", "deploy"): {"template-file", "parameter-overrides"},
    ("s3", "cp"): {"recursive"},
    ("s3api", "list-object-versions"): {"max-items"},
}
OF_EVERY_COMMAND = {"cli-binary-format", "region", "output", "query", "profile", "no-paginate"}


def known_to_aws(service: str, operation: str, *words: str) -> bool:
    """Whether the service has this operation, and the operation these options."""
    options = {word[2:] for word in words if word.startswith("--")} - OF_EVERY_COMMAND
    options -= OF_THE_CLI.get((service, operation), set())
    if service == "s3":
        return not options
    if service == "s3api":
        service = "s3"
    model = botocore.session.get_session().get_service_model(service)
    by_name = {xform_name(name, "-"): name for name in model.operation_names}
    called = by_name["create-stack" if operation == "deploy" else operation]
    shape = model.operation_model(called).input_shape
    known = {xform_name(name, "-") for name in shape.members} if shape else set()
    # A flag can be said with no- before it.
    return options <= known | {f"no-{name}" for name in known}
