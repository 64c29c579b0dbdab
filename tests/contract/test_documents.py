"""The documents: what they name exists."""

from __future__ import annotations

import re

from . import permissions
from .shipped import REPOSITORY

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
