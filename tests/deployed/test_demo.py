"""`make demo`, as a whole process, on organizations that nobody has seen."""

from __future__ import annotations

import random
import re
import socket
import subprocess
import sys
from pathlib import Path

import yaml

from local import stack
from tests.organizations import organization

ROOT = Path(__file__).resolve().parents[2]


def _demo(file: Path, port: int, auto: str = "approve") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "local", "demo", "--organization", str(file)),
            *("--port", str(port), "--auto", auto),
        ],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "functions"), "HOME": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_every_account_and_case_of_a_random_organization_ends_as_its_file_says(
    tmp_path: Path,
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    file = tmp_path / f"seed-{seed}.yaml"
    content = organization(accounts=80, with_keys=0.25, seed=seed)
    file.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False))

    done = _demo(file, stack.free_port())

    assert done.returncode == 0, f"seed {seed}\n{done.stdout}\n{done.stderr}"
    assert "Every account and every case ended as expected." in done.stdout
    # The report that people look at says the same.
    page = (ROOT / ".local" / "report.html").read_text(encoding="utf-8")
    cells = re.findall(
        r'<td class="id">(\d{12})<td [^>]+>[^<]*<td [^>]+>[^<]*<td [^>]+>(\w+)', page
    )
    assert len(cells) == 82
    expected = {entry["id"]: entry["expect"]["account"] for entry in content["accounts"]}
    assert expected.items() <= dict(cells).items(), f"seed {seed}"


def test_a_file_that_expects_something_else_fails_the_demo(tmp_path: Path) -> None:
    file = tmp_path / "wrong.yaml"
    content = organization(accounts=1, with_keys=0, seed=1)
    content["accounts"][0] |= {"state": "ACTIVE", "expect": {"account": "UNKNOWN"}}
    content["accounts"][0].pop("faults", None)
    content["accounts"][0].pop("audit_role", None)
    file.write_text(yaml.safe_dump(content))

    done = _demo(file, stack.free_port())

    assert done.returncode == 1
    assert "is CLEAN (), expected UNKNOWN" in done.stdout


def test_a_broken_organization_file_is_one_clear_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text('management_account: "111111111111"\nsecurity_acount: "222222222222"\n')

    done = _demo(file, stack.free_port())

    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert f"{file}:2" in done.stderr
    assert "security_acount" in done.stderr


def test_a_port_that_is_taken_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = _demo(ROOT / "examples/organization.yaml", taken.getsockname()[1])

    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "port" in done.stderr
