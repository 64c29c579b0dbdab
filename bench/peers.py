"""What others do: their tools, each installed into an environment of its own, on the same fake."""

from __future__ import annotations

import subprocess
import sys
import venv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .fake_aws import FIRST_ACCOUNT
from .measure import ROOT, run_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .measure import Fake, Spent

INSTALLED = ROOT / ".local" / "bench"
POLICY = """\
policies:
  - name: root-access-keys
    resource: aws.account
    filters: [{type: iam-summary, key: AccountAccessKeysPresent, op: gte, value: 1}]
"""
BOTOCOVE = """\
import sys
from botocove import cove

ids = [str(int(sys.argv[1]) + number) for number in range(int(sys.argv[2]))]

@cove(target_ids=ids, rolename="any", thread_workers=20)
def check(session):
    return session.client("iam").get_account_summary()["SummaryMap"]["AccountAccessKeysPresent"]

answer = check()
# It leaves out the account that it is called from.
assert len(answer["Results"]) >= len(ids) - 1, answer
"""


@dataclass(frozen=True)
class Peer:
    """A tool, what to install for it, how many accounts to give it, and how it is run."""

    name: str
    packages: tuple[str, ...]
    accounts: int
    command: Callable[[Path, Path, int], list[str]]


def _c7n_org(bin: Path, work: Path, accounts: int) -> list[str]:
    (work / "policy.yml").write_text(POLICY)
    lines = ["accounts:"]
    for number in range(accounts):
        id = FIRST_ACCOUNT + number
        lines += [f'- account_id: "{id}"', f"  name: account-{number}"]
        lines += [f"  role: arn:aws:iam::{id}:role/any", "  regions: [us-east-1]"]
    (work / "accounts.yml").write_text("\n".join(lines))
    return [
        *(f"{bin}/c7n-org", "run", "-c", "accounts.yml", "-u", "policy.yml"),
        *("-s", "out", "-r", "us-east-1", "--cache-period", "0"),
    ]


def _botocove(bin: Path, work: Path, accounts: int) -> list[str]:
    (work / "check.py").write_text(BOTOCOVE)
    return [f"{bin}/python", "check.py", str(FIRST_ACCOUNT), str(accounts)]


def _prowler(bin: Path, work: Path, accounts: int) -> list[str]:
    assert accounts == 1
    role = f"arn:aws:iam::{FIRST_ACCOUNT}:role/any"
    return [
        *(f"{bin}/prowler", "aws", "--checks", "iam_no_root_access_key", "-f", "us-east-1"),
        *("-R", role, "-o", str(work / "out"), "-M", "csv", "--no-banner", "-z"),
    ]


PEERS = (
    Peer("c7n-org, the filter `iam-summary`", ("c7n==0.9.53", "c7n-org==0.6.52"), 200, _c7n_org),
    Peer("botocove, 20 threads", ("botocove==1.7.4",), 200, _botocove),
    Peer("Prowler, the one check", ("prowler==5.46.0",), 1, _prowler),
)


def measure(peer: Peer, fake: Fake) -> tuple[Spent, dict[str, int]] | str:
    """What a peer takes, with the start of its process, and its calls; or why it cannot be told."""
    folder = INSTALLED / peer.name.partition(",")[0].lower()
    bin = folder / "bin"
    try:
        if not (folder / "ready").exists():
            venv.create(folder, clear=True, with_pip=True)
            install = [f"{bin}/python", "-m", "pip", "install", "--quiet", *peer.packages]
            subprocess.run(install, check=True, capture_output=True, text=True)
            (folder / "ready").touch()
        work = folder / "work"
        work.mkdir(exist_ok=True)
        command = peer.command(bin, work, peer.accounts)
        environment = {
            name: value for name, value in fake.environment().items() if name != "PYTHONPATH"
        }
        before = fake.calls()
        spent = run_command(command, environment, work)
    except subprocess.CalledProcessError as error:
        words = (error.stderr or error.stdout or "").strip().splitlines()
        return f"{' '.join(map(str, error.cmd[:3]))}: {words[-1] if words else error}"
    calls = fake.calls()
    made = {name: count - before.get(name, 0) for name, count in calls.items()}
    return spent, {name: count for name, count in made.items() if count}


if __name__ == "__main__":
    from .measure import fake_aws

    for each in PEERS:
        if len(sys.argv) < 2 or sys.argv[1] in each.name:
            with fake_aws(each.accounts) as aws:
                print(each.name, measure(each, aws))
