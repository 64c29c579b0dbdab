"""The packages, and what checks them and the templates: pinned, listed, and awake."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools import packages

from .shipped import REPOSITORY, TEMPLATES

CHECKS = REPOSITORY / ".venv-checks"


def test_everything_that_looks_at_templates_looks_at_all() -> None:
    names = {file.name for file in TEMPLATES}
    checked = yaml.safe_load((REPOSITORY / ".checkov.yaml").read_text())["file"]
    [linted] = re.findall(
        r"cfn-lint .* -- (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE
    )

    assert names == set(checked) == set(linted.split())


def test_the_bill_of_materials_is_of_what_is_deployed() -> None:
    assert packages.SBOM.read_text() == packages.sbom(packages.installed(Path(sys.prefix)))


def test_the_bill_of_materials_keeps_to_its_schema() -> None:
    code = (
        "import sys; from cyclonedx.schema import SchemaVersion;"
        "from cyclonedx.validation.json import JsonStrictValidator;"
        "sys.exit(JsonStrictValidator(SchemaVersion.V1_6).validate_str(sys.stdin.read()))"
    )
    for text, status in ((packages.SBOM.read_text(), 0), ('{"bomFormat": "CycloneDX"}', 1)):
        run = subprocess.run(
            [CHECKS / "bin" / "python", "-c", code],
            input=text, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.returncode == status, run.stderr


def test_the_list_of_licences_is_up_to_date() -> None:
    here, checks = packages.installed(Path(sys.prefix)), packages.installed(CHECKS)

    assert packages.LICENCES.read_text() == packages.licences(here, checks)


def test_no_package_has_a_licence_that_nobody_has_agreed_to() -> None:
    here = packages.installed(Path(sys.prefix))
    for name in packages.pinned("functions/requirements.txt"):
        assert packages.is_one_of(packages.licence(here[name]), packages.DEPLOYED), name
    for package in (*here.values(), *packages.installed(CHECKS).values()):
        assert packages.is_one_of(packages.licence(package), packages.TOOLS), package.name


@pytest.mark.parametrize(
    ("expression", "fine"),
    [
        ("MIT", True),
        ("GPL-3.0-only OR MIT", True),
        ("MIT AND (Apache-2.0 OR BSD-3-Clause)", True),
        ("GPL-3.0-only", False),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
        ("None", False),
    ],
)
def test_a_licence_counts_by_its_parts(expression: str, fine: bool) -> None:
    assert packages.is_one_of(expression, packages.DEPLOYED) is fine


def test_what_checkov_does_not_look_at_has_a_reason_beside_it() -> None:
    settings = (REPOSITORY / ".checkov.yaml").read_text()
    reasons = r"^(?:  # .+\n)+(?:  - CKV\w+\n)+"
    skips = "".join(re.findall(reasons, settings, re.MULTILINE))
    assert skips.count("CKV") == settings.count("CKV") > 0
    for file in TEMPLATES:
        text = file.read_text()
        reasons = re.findall(r"^ +# checkov:skip=CKV\w+: \w.{10,}$", text, re.MULTILINE)
        assert text.count("checkov:") == len(reasons), file.name


def test_checkov_finds_what_is_broken(tmp_path: Path) -> None:
    bucket = {"Type": "AWS::S3::Bucket", "Properties": {"AccessControl": "PublicRead"}}
    (tmp_path / "template.json").write_text(json.dumps({"Resources": {"Bucket": bucket}}))
    command = [CHECKS / "bin" / "checkov", "--config-file", REPOSITORY / ".checkov.yaml"]

    run = subprocess.run(
        [*command, "--file", tmp_path / "template.json"],
        env={**os.environ, "CKV_SKIP_PACKAGE_UPDATE_CHECK": "true"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert run.returncode == 1
    assert "CKV_AWS_20" in run.stdout  # Anybody can read it.


def test_actions_are_pinned_by_commit_and_workflows_can_only_read() -> None:
    [workflow] = (REPOSITORY / ".github/workflows").iterdir()
    text = workflow.read_text()

    used = re.findall(r"\buses: (.+)$", text, re.MULTILINE)
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action
    assert re.findall(r"^permissions: (.*)$", text, re.MULTILINE) == ["{}"]
    assert set(re.findall(r"^      [a-z-]+: (?:read|write)\b.*$", text, re.MULTILINE)) == {
        "      contents: read # to check out"
    }
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


def test_the_workflow_runs_what_a_person_runs() -> None:
    text = (REPOSITORY / ".github/workflows/ci.yml").read_text()

    assert re.findall(r"run: (.+)$", text, re.MULTILINE) == [
        "make PYTHON=python check",
        "make PYTHON=python test",
        "make PYTHON=python audit",
    ]
    # What the service does not know must not pass as free of vulnerabilities.
    assert "pip-audit --strict" in (REPOSITORY / "Makefile").read_text()


def test_a_new_release_waits_a_week() -> None:
    settings = yaml.safe_load((REPOSITORY / ".github/dependabot.yml").read_text())

    assert [update["package-ecosystem"] for update in settings["updates"]] == [
        "pip",
        "github-actions",
    ]
    assert all(update["cooldown"]["default-days"] >= 7 for update in settings["updates"])
