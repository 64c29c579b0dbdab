"""No secret in what is tracked."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from detect_secrets.core.scan import scan_file
from detect_secrets.settings import default_settings

from .shipped import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NO_SECRETS = [
    # Access keys that nobody has: AWS's documents write EXAMPLE too.
    r"^A[KS]IAEXAMPLE",
    # Key ids that say for what session they stand.
    r"^ASIA(LOOKS|DELETES)0+1$",
    # Secrets of pretended AWS, and of links in unit tests, which are plain words.
    r"^(none|test|secret|a-secret|the-other-secret|second-link)$",
    # The alphabet that pretended key ids are drawn from.
    r"^ABCDEFGHIJKLMNOPQRSTUVWXYZ234567$",
]


@pytest.fixture(autouse=True)
def offline() -> Iterator[None]:
    """All detectors, and nothing that asks AWS or others whether a find is a secret."""
    with default_settings() as settings:
        settings.disable_filters(
            "detect_secrets.filters.common.is_ignored_due_to_verification_policies"
        )
        settings.filters["detect_secrets.filters.regex.should_exclude_secret"] = {
            "pattern": NO_SECRETS
        }
        yield


def secrets(file: Path) -> list[Any]:
    return [f"{file}:{found.line_number}: {found.type}" for found in scan_file(str(file))]


def test_no_tracked_file_holds_a_secret() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    files = [REPOSITORY / name for name in listing.stdout.split("\0") if name]

    assert len(files) > 100
    assert [found for file in files if file.exists() for found in secrets(file)] == []


@pytest.mark.parametrize(
    "line",
    [
        "key = 'AKIA" + "QYLPMN5HHHFPZAM2'",
        "aws_secret_access_key = '" + "8Qh3vTgTn1m/PrX2bY7k" + "Zc5Wd9Le4Rf6Ua0SjKxo'",
        "-----BEGIN RSA " + "PRIVATE KEY-----",
        "token: ghp_" + "wWPw5k4aXcaT4fNP0U" + "cnZwJUVFk6LO0pINUx",
    ],
)
def test_a_planted_secret_is_found(line: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.py"
    file.write_text(f"{line}\n")

    assert secrets(file)
