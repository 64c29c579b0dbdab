"""Safeguards that are taken out on purpose, one at a time: for each, a test that complains.

`python -m tests.faults.mutants [WORD]` edits a copy of the repository and runs the tests there.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
COPIED = ("functions", "statemachine", "tests", "local", "operate", "template.yaml")
COPIED += ("member-role.yaml", "member-events.yaml", "root-session-policy.yaml", "pyproject.toml")
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider")


class Mutant(NamedTuple):
    """A safeguard, where it is, what stands there, what takes its place, which tests are asked."""

    safeguard: str
    file: str
    is_now: str
    becomes: str
    tests: str


CASES, ACCESS = "functions/rootsweep/cases.py", "functions/rootsweep/root_access.py"
HOLDS, DELETE = "functions/rootsweep/holds.py", "functions/delete_root_keys.py"
PAGE, REMEDIATE = "functions/approval_page.py", "statemachine/remediate.asl.yaml"
UNIT = "tests/unit/test_"

MUTANTS = [
    Mutant(
        "one open case for an account: the conditional write that opens it",
        CASES,
        '{"Put": {"TableName": table.name, "Item": lock, "ConditionExpression": absent}}',
        '{"Put": {"TableName": table.name, "Item": lock}}',
        f"{UNIT}cases.py",
    ),
    Mutant(
        "a case that ended stays as it ended: the condition of every change",
        CASES,
        'Attr("pk").exists() & Attr("ended_at").not_exists() & known',
        'Attr("pk").exists() & known',
        f"{UNIT}cases.py",
    ),
    Mutant(
        "a case of a newer version is not written to: the condition of every change",
        CASES,
        'Attr("ended_at").not_exists() & known',
        'Attr("ended_at").not_exists()',
        f"{UNIT}cases.py",
    ),
    Mutant(
        "an outcome is recorded once: the condition of the transaction",
        CASES,
        "attribute_exists(pk) AND attribute_not_exists(ended_at)",
        "attribute_exists(pk)",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "nobody decides what was decided: the condition of a decision",
        CASES,
        '        & Attr("decided").not_exists()\n        & Attr("ended_at").not_exists()\n'
        '        & Attr("approvers")',
        '        & Attr("approvers")',
        f"{UNIT}cases.py",
    ),
    Mutant(
        "two approvers at the same moment count each other",
        CASES,
        'condition &= Attr("approvals").size().eq(len(case.approvals))',
        "pass",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "a decision is about the evidence that was shown",
        CASES,
        '& Attr("fingerprint").eq(decision.fingerprint)',
        "",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "only who is asked decides",
        CASES,
        "has_a_say = self.asks(approver) or self.approval_of(approver) is not None",
        "has_a_say = True",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "hash check: an approval is of exactly these keys",
        CASES,
        "any(each.fingerprint != found for each in case.approvals)",
        "False",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "quorum: so many people as the case needs",
        CASES,
        "if len(people) < case.quorum:",
        "if not people:",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "a person counts once, however the address is written",
        CASES,
        "people = {person(each.by) for each in case.approvals}",
        "people = [each.by for each in case.approvals]",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "only the open case of an account deletes",
        CASES,
        "if open_case is None or open_case.id != case_id:",
        "if open_case is None:",
        f"{UNIT}cases.py",
    ),
    Mutant(
        "a decision and the end of the wait meet in one place",
        CASES,
        'extra=Attr("decided").not_exists() | Attr("decided").eq("NO"),',
        "",
        f"{UNIT}cases.py {UNIT}read_decision.py",
    ),
    Mutant(
        "a decline in the last moment stops the deletion",
        CASES,
        'extra=Attr("decision.answer").eq(Answer.APPROVED),',
        "",
        f"{UNIT}cases.py {UNIT}delete_root_keys.py",
    ),
    Mutant(
        "read again before deleting: keys that nobody approved",
        ACCESS,
        "unapproved = _ids_and_status(present) - _ids_and_status(approved)",
        "unapproved: set[tuple[str, str]] = set()",
        f"{UNIT}root_access.py",
    ),
    Mutant(
        "a key that is gone already is no error",
        ACCESS,
        "except iam.exceptions.NoSuchEntityException:",
        "except ZeroDivisionError:",
        f"{UNIT}root_access.py",
    ),
    Mutant(
        "confirmed is what is no longer listed",
        ACCESS,
        "    if present:\n        raise RootKeysRemainError",
        "    if False:\n        raise RootKeysRemainError",
        f"{UNIT}root_access.py",
    ),
    Mutant(
        "confirmed is what the summary does not report",
        ACCESS,
        "    if summary.access_keys:\n        raise",
        "    if False:\n        raise",
        f"{UNIT}root_access.py",
    ),
    Mutant(
        "an approval is bound to whether a key is active",
        ACCESS,
        "return {(key.id, key.status) for key in keys}",
        'return {(key.id, "") for key in keys}',
        f"{UNIT}root_access.py",
    ),
    Mutant(
        "kill switch: whatever is not off",
        HOLDS,
        "    if value != OFF:",
        '    if value == "on":',
        f"{UNIT}holds.py",
    ),
    Mutant(
        "kill switch: one that cannot be read is on",
        HOLDS,
        "    except Exception as error:\n        raise KillSwitchOnError(",
        "    except Exception as error:\n        return\n        raise KillSwitchOnError(",
        f"{UNIT}holds.py",
    ),
    Mutant(
        "kill switch: again before each key",
        DELETE,
        "        holds.require_kill_switch_off(ssm, parameter=KILL_SWITCH_PARAMETER)\n"
        "        root_access",
        "        root_access",
        f"{UNIT}delete_root_keys.py",
    ),
    Mutant(
        "more people if the keys are more in use than their approvers knew",
        DELETE,
        "    if quorum.people > case.quorum:",
        "    if False:",
        f"{UNIT}delete_root_keys.py",
    ),
    Mutant(
        "the intent is noted before the first deletion",
        DELETE,
        "        cases.record_deletion_started(table, case_id=case.id, now=datetime.now(UTC))\n",
        "",
        f"{UNIT}delete_root_keys.py"
        "::test_a_deletion_that_nobody_lived_to_record_is_known_to_be_ours",
    ),
    Mutant(
        "the first deletions of a release run one at a time",
        HOLDS,
        "    if other and not other.quarantine_token:",
        "    if False:",
        f"{UNIT}holds.py",
    ),
    Mutant(
        "a block that AWS has refused is not waited for",
        "functions/quarantine_root_user.py",
        "    if case.decision is None:",
        "    if False:",
        f"{UNIT}quarantine_root_user.py",
    ),
    Mutant(
        "batch isolation: an answer that nobody foresaw",
        "functions/check_accounts.py",
        "    except Exception as error:",
        "    except ZeroDivisionError as error:",
        f"{UNIT}check_accounts.py",
    ),
    Mutant(
        "batch isolation: a batch that fails is tolerated",
        "statemachine/sweep.asl.yaml",
        "    ToleratedFailurePercentage: 100",
        "    ToleratedFailurePercentage: 0",
        "tests/contract/test_definitions.py",
    ),
    Mutant(
        "timeout catch: nobody answering is no error",
        REMEDIATE,
        "      - ErrorEquals: [States.Timeout]\n        Next: Read decision\n"
        "      - ErrorEquals: [States.ALL]\n        Output: {reason:",
        "      - ErrorEquals: [States.ALL]\n        Output: {reason:",
        "tests/workflow/test_remediate.py",
    ),
    Mutant(
        "what was not checked is UNKNOWN",
        "functions/rootsweep/sweeps.py",
        "return AccountState.UNKNOWN, words.BATCH_DID_NOT_FINISH",
        "return AccountState.CLEAN, words.BATCH_DID_NOT_FINISH",
        f"{UNIT}sweeps.py",
    ),
    Mutant(
        "a form counts only with the token of the page that was shown",
        "functions/rootsweep/approvals.py",
        '    return hmac.compare_digest(given.encode(errors="replace"), '
        "page_token(secret, case).encode())",
        "    return True",
        f"{UNIT}approval_page.py {UNIT}approvals.py",
    ),
    Mutant(
        "opening a link changes nothing: only POST decides",
        PAGE,
        'if method == "POST":',
        "if True:",
        f"{UNIT}approval_page.py",
    ),
    Mutant(
        "names of accounts are text on the page",
        "functions/rootsweep/messages.py",
        'select_autoescape(enabled_extensions=("html",))',
        "False",
        f"{UNIT}messages.py",
    ),
    Mutant(
        "the table has only the hash of a link",
        "functions/rootsweep/table.py",
        "hashlib.sha256(secret.encode(errors='replace')).hexdigest()",
        "secret",
        f"{UNIT}approval_page.py {UNIT}approvers.py {UNIT}mailing.py",
    ),
    Mutant(
        "one mail at a time to one approver",
        "functions/rootsweep/approvers.py",
        '            ConditionExpression=Attr("mailing_until").not_exists()\n'
        '            | Attr("mailing_until").lt(iso(now)),\n',
        "",
        f"{UNIT}approvers.py {UNIT}mailing.py",
    ),
    Mutant(
        "an answer that came empty is not the end of a list",
        "functions/rootsweep/pages.py",
        'if name not in page and "NextToken" not in page:',
        "if False:",
        # Another test of it has units without end, which would be listed until memory is.
        f"{UNIT}accounts.py -k an_answer_that_may_lack_an_account",
    ),
    Mutant(
        "what a newer version wrote is not read by an older one",
        "functions/rootsweep/table.py",
        "> SCHEMA_VERSION:",
        "> SCHEMA_VERSION + 1:",
        f"{UNIT}cases.py {UNIT}open_cases.py {UNIT}exceptions.py",
    ),
    Mutant(
        "a form of another version of the page does not count",
        "functions/rootsweep/approvals.py",
        "decide {PAGE_VERSION} {",
        "decide {",
        f"{UNIT}approvals.py",
    ),
    Mutant(
        "each entry of the decision log hashes the one before",
        "functions/rootsweep/decision_log.py",
        '"previous": head.get("newest_hash", NOTHING_BEFORE),',
        '"previous": NOTHING_BEFORE,',
        f"{UNIT}decision_log.py {UNIT}verify_log.py",
    ),
    Mutant(
        "of two that write a finding the last one has written what is there: the second look",
        "functions/write_findings.py",
        "if load(id) != subject]",
        "if load(id) is None]",
        f"{UNIT}write_findings.py",
    ),
    Mutant(
        "what people set about a finding stays when a message comes again",
        "functions/rootsweep/findings.py",
        '        if each.get("ProductFields", {}).get(told) != given_up[each["Id"]].outcome\n',
        "",
        f"{UNIT}write_findings.py",
    ),
]


def run(mutant: Mutant, copy: Path) -> str:
    """The test that complains about a mutant, or "" if none does. Raises ValueError if it is not
    to be made any more."""
    file = copy / mutant.file
    before = file.read_text(encoding="utf-8")
    if mutant.is_now not in before:
        raise ValueError(f"{mutant.safeguard}: {mutant.file} has no {mutant.is_now!r}")
    file.write_text(before.replace(mutant.is_now, mutant.becomes, 1), encoding="utf-8")
    try:
        done = _pytest(copy, *mutant.tests.split())
    finally:
        file.write_text(before, encoding="utf-8")
    found = re.search(
        r"^FAILED (\S*?test_\w+\.py)::(.+?)(?: - .*)?$", done.stdout, flags=re.MULTILINE
    )
    if done.returncode not in (0, 1) or (done.returncode == 1 and not found):
        raise ValueError(f"{mutant.safeguard}: {done.stdout[-800:]}{done.stderr[-800:]}")
    if not found:
        return ""
    # It complains about the mutant, and about nothing else.
    if _pytest(copy, f"{found[1]}::{found[2]}").returncode:
        raise ValueError(f"{mutant.safeguard}: {found[2]} fails without the mutant, too")
    return found[2]


def _pytest(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PYTEST, *tests],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": "functions", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def run_all(mutants: list[Mutant]) -> list[tuple[Mutant, str]]:
    """Each mutant with the test that complains, in processes beside each other."""
    processes = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as pool:
        copies = [Path(folder) / str(number) for number in range(processes)]
        for copy in copies:
            copy.mkdir()
            for name in COPIED:
                source = REPOSITORY / name
                (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        parts = [mutants[number::processes] for number in range(processes)]
        work = lambda number: [  # noqa: E731
            (mutant, run(mutant, copies[number])) for mutant in parts[number]
        ]
        return [pair for part in pool.map(work, range(processes)) for pair in part]


if __name__ == "__main__":
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    survivors = 0
    for mutant, test in run_all([each for each in MUTANTS if word in each.safeguard]):
        print(f"{mutant.safeguard}\n    {test or 'NO TEST COMPLAINS'}")
        survivors += not test
    sys.exit(bool(survivors))
