"""The Rootsweep stack on the embedded AWS: start, build, deploy, stop.

Speaks to the embedded AWS only as anyone would speak to AWS: SAM CLI, boto3 and HTTP.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import httpx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from local.organization import Organization

ROOT = Path(__file__).resolve().parent.parent
STATE = ROOT / ".local"
REGION = "us-east-1"
STACK_NAME = "rootsweep"
SENDER = "rootsweep@example.com"
DEFAULT_APPROVER = "cloud-security@example.com"
SECOND_APPROVER = "security-lead@example.com"
# The host of the custom domain for the approval page. Names below localhost do not resolve
# everywhere, so the domain is the loopback address, and a base path keeps it apart.
APPROVALS_HOST = "127.0.0.1"
APPROVALS_PATH = "approvals"


class StackError(Exception):
    """When the embedded AWS or the stack on it cannot be brought up; the message is for people."""


@dataclass(frozen=True)
class Stack:
    """A deployed stack, as `.local/stack.json` describes it to others."""

    endpoint: str
    region: str
    account: str
    inbox: str
    outputs: dict[str, str]

    def client(self, service: str) -> Any:
        """A boto3 client that acts as the security account."""
        session: Any = boto3
        return session.client(service, **_client_settings(self.endpoint, self.account))

    def resource(self, service: str) -> Any:
        """A boto3 resource that acts as the security account."""
        session: Any = boto3
        return session.resource(service, **_client_settings(self.endpoint, self.account))

    def save(self) -> None:
        """Write `.local/stack.json`, by which others find the stack."""
        (STATE / "stack.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


class EmbeddedAws:
    """The process of the embedded AWS, with its log in `.local/`."""

    def __init__(
        self,
        *,
        port: int,
        organization: Path,
        background: bool = False,
        parameters: Mapping[str, str] | None = None,
    ) -> None:
        """With `background` it outlives this process, and `stop_background` ends it.

        `parameters` are those of the stack; the member role has some of the same name.
        """
        shared = {"RootsweepStackName": STACK_NAME, **(parameters or {})}
        self.endpoint = f"http://127.0.0.1:{port}"
        STATE.mkdir(exist_ok=True)
        self._log = STATE / f"aws-{port}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "local.embedded_aws"),
                    *("--port", str(port), "--organization", str(organization.resolve())),
                    *(f"--parameter={name}={value}" for name, value in shared.items()),
                ],
                cwd=ROOT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        if background:
            (STATE / "pid").write_text(str(self._process.pid))

    def wait_until_ready(self, seconds: float = 60) -> None:
        """Return when it answers. Raises StackError with its last words if it does not."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise StackError(self._last_words())
            try:
                httpx.get(f"{self.endpoint}/_ministack/health", timeout=2).raise_for_status()
            except httpx.HTTPError:
                time.sleep(0.1)
            else:
                return
        raise StackError(f"the embedded AWS did not answer within {seconds:.0f} s; see {self._log}")

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def stop(self) -> None:
        """End the process and everything it started."""
        _end_group(self._process.pid)
        self._process.wait()

    def _last_words(self) -> str:
        lines = self._log.read_text().strip().splitlines()
        return lines[-1] if lines else f"the embedded AWS ended with {self._process.returncode}"


def deploy(aws: EmbeddedAws, organization: Organization, parameters: Mapping[str, str]) -> Stack:
    """Deploy the template of this repository, as `sam build` left it. Raises StackError."""
    account = organization.security_account
    settings = _client_settings(aws.endpoint, account)
    chosen = {
        "SenderAddress": SENDER,
        "DefaultApprover": DEFAULT_APPROVER,
        "SecondApprover": SECOND_APPROVER,
        "MailWindowSeconds": "6",
        "ApprovalBaseUrl": f"{aws.endpoint}/{APPROVALS_PATH}",
        **parameters,
    }
    organization_id = boto3.client("organizations", **settings).describe_organization()
    chosen.setdefault("OrganizationId", organization_id["Organization"]["Id"])
    boto3.client("ses", **settings).verify_email_identity(EmailAddress=chosen["SenderAddress"])
    sam_deploy(
        ROOT / ".aws-sam/build/template.yaml", chosen, endpoint=aws.endpoint, account=account
    )
    described = boto3.client("cloudformation", **settings).describe_stacks(StackName=STACK_NAME)
    outputs = {
        output["OutputKey"]: output["OutputValue"]
        for output in described["Stacks"][0].get("Outputs", [])
    }
    _map_domain(outputs["ApprovalApiId"], settings)
    return Stack(
        endpoint=aws.endpoint,
        region=REGION,
        account=account,
        inbox=f"{aws.endpoint}/_rootsweep/inbox",
        outputs=outputs,
    )


def sam_deploy(
    template: Path,
    parameters: Mapping[str, str],
    *,
    endpoint: str,
    account: str,
    stack_name: str = STACK_NAME,
    capabilities: str = "CAPABILITY_IAM",
) -> None:
    """Run `sam deploy` in an account. Raises StackError."""
    overrides = [f'{name}="{_escaped(value)}"' for name, value in parameters.items()]
    _sam(
        "deploy",
        *("--template", str(template), "--stack-name", stack_name),
        *("--resolve-s3", "--no-confirm-changeset", "--no-progressbar", "--region", REGION),
        *("--capabilities", capabilities, "--parameter-overrides", *overrides),
        endpoint=endpoint,
        account=account,
    )


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def build() -> None:
    """Run `sam build`. Raises StackError."""
    _sam("build", "--cached", "--parallel", endpoint="", account="")


def template_parameters() -> list[str]:
    """The names of the template's parameters."""
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    section = re.split(r"^\S", template.partition("\nParameters:\n")[2], maxsplit=1, flags=re.M)[0]
    return re.findall(r"^  (\w+):$", section, flags=re.M)


def stop_background() -> bool:
    """End an embedded AWS that was started in the background; whether there was one."""
    pid_file = STATE / "pid"
    try:
        pid = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return False
    was_running = _is_embedded_aws(pid)
    if was_running:
        _end_group(pid)
    pid_file.unlink(missing_ok=True)
    (STATE / "stack.json").unlink(missing_ok=True)
    return was_running


def is_running_in_background() -> bool:
    """Whether an embedded AWS was started in the background and lives."""
    try:
        return _is_embedded_aws(int((STATE / "pid").read_text()))
    except (FileNotFoundError, ValueError):
        return False


def _is_embedded_aws(pid: int) -> bool:
    # A process id can have been given to somebody else meanwhile.
    proc = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self").exists():
        return proc.exists() and b"local.embedded_aws" in proc.read_bytes()
    listed = subprocess.run(
        ["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return "local.embedded_aws" in listed.stdout


def _end_group(pid: int) -> None:
    for signal_number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(pid, signal_number)
        except (ProcessLookupError, PermissionError):
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            try:
                os.killpg(pid, 0)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(0.05)


def _sam(*arguments: str, endpoint: str, account: str) -> None:
    # Nothing of the person's own AWS settings may leak into a pretend deployment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "AWS_ACCESS_KEY_ID": account,
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # The build calls python3 -m pip: this one, which is sure to have it.
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_CHECK_UPDATE": "0",
        "__SAM_CLI_APP_DIR": str(STATE / "sam"),
    }
    if endpoint:
        environment["AWS_ENDPOINT_URL"] = endpoint
    log = STATE / f"sam-{arguments[0]}.log"
    STATE.mkdir(exist_ok=True)
    # One at a time: they share the folder of the build, and the log.
    with (STATE / "sam.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with log.open("w") as output:
            done = subprocess.run(
                [str(Path(sys.executable).parent / "sam"), *arguments],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
            )
        said = [line for line in log.read_text().splitlines() if line.strip()]
    if done.returncode:
        raise StackError(
            f"sam {arguments[0]} failed: {said[-1] if said else 'without a word'} (see {log})"
        )


def _escaped(value: str) -> str:
    """A value between quotation marks, as `--parameter-overrides` of SAM CLI reads it."""
    return value.replace("\\", "\\\\").replace('"', '\\"')


def _map_domain(api_id: str, settings: dict[str, Any]) -> None:
    """Give the approval API a custom domain, as one would in front of a real one."""
    apigateway = boto3.client("apigateway", **settings)
    apigateway.create_domain_name(domainName=APPROVALS_HOST)
    apigateway.create_base_path_mapping(
        domainName=APPROVALS_HOST, basePath=APPROVALS_PATH, restApiId=api_id, stage="v1"
    )


def _client_settings(endpoint: str, account: str) -> dict[str, Any]:
    return {
        "endpoint_url": endpoint,
        "region_name": REGION,
        "aws_access_key_id": account,  # The embedded AWS takes an account id for its root user.
        "aws_secret_access_key": "test",
    }
