"""The organization file: what is read, and what is refused with the line it stands on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from local.organization import Account, Organization, OrganizationFileError, load

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = 'management_account: "111111111111"\nsecurity_account: "222222222222"\n'


def read(tmp_path: Path, text: str) -> Organization:
    path = tmp_path / "org.yaml"
    path.write_text(text)
    return load(path)


def account(tmp_path: Path, text: str) -> Account:
    return read(tmp_path, HEAD + "accounts:\n" + text).accounts[-1]


def test_an_account_is_read_with_all_its_fields(tmp_path: Path) -> None:
    found = account(
        tmp_path,
        """\
  - id: "333333333333"
    name: payments-prod
    email: aws+payments@example.com
    state: ACTIVE
    ou: Workloads/Prod
    tags: {rootsweep-approver: payments-leads@example.com, cost-center: 17}
    security_contact: payments-sec@example.com
    root:
      access_keys:
        - {id: AKIAEXAMPLE00000001, status: Inactive, created: 2016-04-01,
           last_used: {date: 2024-02-03T10:00:00Z, service: s3, region: us-east-1}}
      mfa: false
      password: true
    audit_role: false
    scp_denies_root: true
    faults: {"iam:GetAccountSummary": {error: Throttling, times: 2}}
    answer: approve
    expect: {account: ROOT_KEYS, case: REMEDIATED}
""",
    )
    (key,) = found.access_keys
    assert found.ou == ("Workloads", "Prod")
    assert found.tags["cost-center"] == "17"
    assert (key.status, key.created.year) == ("Inactive", 2016)
    assert key.last_used is not None
    assert key.last_used.date.isoformat() == "2024-02-03T10:00:00+00:00"
    assert (found.mfa, found.password, found.audit_role, found.scp_denies_root) == (
        False,
        True,
        False,
        True,
    )
    assert found.faults["iam:GetAccountSummary"].times == 2
    assert (found.answer, found.expect.case) == ("approve", "REMEDIATED")


def test_the_management_and_the_security_account_are_there_without_being_listed(
    tmp_path: Path,
) -> None:
    found = read(tmp_path, HEAD)
    assert [(a.id, a.name, a.state) for a in found.accounts] == [
        ("111111111111", "management", "ACTIVE"),
        ("222222222222", "security", "ACTIVE"),
    ]
    assert all(a.audit_role and not a.access_keys for a in found.accounts)


def test_listed_fields_of_the_management_account_are_used(tmp_path: Path) -> None:
    found = account(
        tmp_path, '  - {id: "111111111111", root: {access_keys: [{id: AKIAEXAMPLE00000001}]}}\n'
    )
    assert (found.name, len(found.access_keys)) == ("management", 1)


def test_an_account_id_without_quotes_is_taken(tmp_path: Path) -> None:
    assert account(tmp_path, "  - {id: 333333333333}\n").id == "333333333333"


def test_left_out_fields_have_defaults_and_the_root_is_the_default_ou(tmp_path: Path) -> None:
    found = account(tmp_path, '  - {id: "333333333333", ou: root, security_contact: }\n')
    assert (found.ou, found.state, found.security_contact) == ((), "ACTIVE", None)
    assert found.email == "aws+333333333333@example.com"


def test_a_fault_can_be_an_answer_that_is_not_true_yet(tmp_path: Path) -> None:
    found = account(
        tmp_path,
        '  - {id: "333333333333", faults: {"iam:GetAccountSummary": '
        "{answer: {AccountAccessKeysPresent: 1}, times: 1}}}\n",
    )
    assert found.faults["iam:GetAccountSummary"].answer == {"AccountAccessKeysPresent": 1}


def test_organizational_units_and_the_root_have_tags(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        HEAD
        + """\
accounts: [{id: "333333333333", ou: Workloads/Prod}]
organizational_units:
  Workloads/Prod: {tags: {rootsweep-approver: prod-lead@example.com}}
  Workloads: {}
  root: {tags: {team: cloud}}
""",
    )
    assert found.unit_tags == {
        ("Workloads", "Prod"): {"rootsweep-approver": "prod-lead@example.com"},
        ("Workloads",): {},
        (): {"team": "cloud"},
    }


REFUSED = {
    "nmae: x": "unknown field 'nmae' in an account; allowed: id, name, email",
    "state: CLOSING": "'CLOSING' is not allowed here; allowed: PENDING_ACTIVATION, ACTIVE",
    "audit_role: maybe": "'maybe' is not true or false",
    "name: [a]": "a list is not a text",
    "name: 12": "'12' is not a text; put it in quotes",
    "email: nobody": "'nobody' is not a mail address",
    "ou: a/b/c/d/e/f": "6 OUs deep; AWS allows 5 levels",
    "ou: a//b": "is not a path of OUs",
    "answer: perhaps": "allowed: approve, decline, ignore",
    "expect: {case: GONE}": "allowed: AWAITING_APPROVAL, AWAITING_REMOVAL",
    "expect: {account: ACTIVE}": "allowed: CLEAN, ROOT_KEYS",
    "tags: [a]": "tags must be a map of fields, not a list",
    "root: {keys: []}": "unknown field 'keys' in root; allowed: access_keys, mfa, password",
    "root: {access_keys: [{status: Active}]}": "id is missing",
    "root: {access_keys: [{id: AKIA1}]}": "'AKIA1' is not an access key id",
    "root: {access_keys: [{id: AKIAEXAMPLE00000001, status: Gone}]}": "allowed: Active, Inactive",
    "root: {access_keys: [{id: AKIAEXAMPLE00000001, created: soon}]}": "'soon' is not a date",
    "root: {access_keys: [{id: AKIAEXAMPLE00000001}, {id: AKIAEXAMPLE00000001}]}": (
        "access key AKIAEXAMPLE00000001 is already on line 5"
    ),
    "root: {access_keys: [{id: AKIAEXAMPLE00000001}, {id: AKIAEXAMPLE00000002},"
    " {id: AKIAEXAMPLE00000003}]}": "a root user has at most 2 access keys",
    'faults: {"iam:GetSummary": {error: X}}': "'iam:GetSummary' is not an operation",
    'faults: {"s3:GetObject": {error: X}}': "'s3:GetObject' is not an operation",
    'faults: {"iam:GetUser": {}}': "a fault has either error or answer, and not both",
    'faults: {"iam:GetUser": {error: X, times: 0}}': "0 is not 1 or more",
    'faults: {"iam:GetUser": {answer: {A: 1}}}': "answer has a meaning for iam:GetAccountSummary",
    "name: a, name: b": "'name' is set twice in an account",
}


@pytest.mark.parametrize(("fields", "problem"), REFUSED.items())
def test_a_wrong_field_is_refused_with_its_line(tmp_path: Path, fields: str, problem: str) -> None:
    with pytest.raises(OrganizationFileError) as refused:
        account(tmp_path, f'  - {{id: "333333333333"}}\n  - {{id: "333333333334", {fields}}}\n')
    assert problem in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path}/org.yaml:5: ")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", ":1: the file is empty"),
        ("- a\n", ":1: the file must be a map of fields, not a list"),
        ('security_account: "222222222222"\n', ":1: management_account is missing"),
        (HEAD + "accounts: {}\n", ":3: a list is needed here, not a map"),
        (HEAD + "acounts: []\n", ":3: unknown field 'acounts' in the file; allowed: management"),
        (HEAD + "accounts: [\n", ":4: this is not YAML: "),
        (HEAD + "accounts:\n\t- a\n", ":4: this is not YAML: "),
        (HEAD + 'accounts:\n  - {id: "12"}\n', ":4: '12' is not an account id"),
        (HEAD + "accounts:\n  - {id: 011111111111}\n", ":4: an account id that starts with 0 must"),
        (HEAD + "accounts:\n  - {id: 333_333_333_3}\n", ":4: '333_333_333_3' is not an account id"),
        (
            HEAD + 'accounts:\n  - {id: "333333333333"}\n  - {id: "333333333333"}\n',
            ":5: account 333333333333 is listed twice",
        ),
        (
            HEAD + "organizational_units:\n  Prod: {tags: {a: b}}\n",
            ":4: no account is in the organizational unit 'Prod'",
        ),
        (
            HEAD + "organizational_units:\n  root: {tag: {a: b}}\n",
            ":4: unknown field 'tag' in an organizational unit; allowed: tags",
        ),
        (HEAD.replace("2" * 12, "1" * 12), ":2: security_account must be another account"),
    ],
)
def test_a_wrong_file_is_refused_with_the_line(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(OrganizationFileError) as refused:
        read(tmp_path, text)
    assert f"{tmp_path}/org.yaml{problem}" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OrganizationFileError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_the_embedded_aws_ends_with_one_line_and_code_2_for_a_bad_file(tmp_path: Path) -> None:
    path = tmp_path / "org.yaml"
    path.write_text("nonsense: 1\n")
    run = subprocess.run(
        [sys.executable, "-m", "local.embedded_aws", "--organization", str(path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert f"{path}:1: unknown field 'nonsense'" in run.stderr
