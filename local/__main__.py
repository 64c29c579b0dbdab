"""`python -m local demo|up|down`, behind `make demo`, `make local` and `make local-down`."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from pathlib import Path
from typing import NoReturn

from local import demo, stack
from local.organization import Organization, OrganizationFileError, load


def main() -> int:
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        if arguments.command == "down":
            print("Stopped." if stack.stop_background() else "Nothing was running.")
            return 0
        parameters = _parameters(arguments.parameters)
        organization = load(arguments.organization)
        if arguments.command == "demo":
            return demo.run(
                arguments.organization,
                organization,
                port=arguments.port,
                auto=arguments.auto or None,
                parameters=parameters,
            )
        _up(arguments, organization, parameters)
    except (OrganizationFileError, stack.StackError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; nothing is left running.", file=sys.stderr)
        return 130
    return 0


def _up(
    arguments: argparse.Namespace, organization: Organization, parameters: dict[str, str]
) -> None:
    if stack.is_running_in_background():
        raise stack.StackError("a stack is running already; stop it with: make local-down")
    aws = stack.EmbeddedAws(
        port=arguments.port,
        organization=arguments.organization,
        background=True,
        parameters=parameters,
    )
    try:
        aws.wait_until_ready()
        print("Building and deploying the stack", flush=True)
        stack.build()
        deployed = stack.deploy(aws, organization, parameters)
        deployed.save()
    except BaseException:
        stack.stop_background()
        raise
    print(f"AWS    {deployed.endpoint}   (as account {deployed.account})")
    print(f"Inbox  {deployed.inbox}")
    print("Facts  .local/stack.json\nStop   make local-down")


def _arguments() -> argparse.Namespace:
    parser = _Parser(prog="python -m local")
    parser.add_argument("command", choices=["demo", "up", "down"])
    parser.add_argument("--organization", type=Path, default=Path("examples/organization.yaml"))
    parser.add_argument("--port", type=_port, default=4566)
    parser.add_argument("--auto", choices=["", "approve", "decline", "ignore"], default="")
    parser.add_argument("--parameters", default="", help="Key=Value ...")
    return parser.parse_args()


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; whoever typed it typed `make` and not this program's name."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{message.removeprefix('argument --')}\n")


def _port(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number (1 to 65535)")
    return int(text)


def _parameters(text: str) -> dict[str, str]:
    try:
        pairs = [pair.partition("=") for pair in shlex.split(text)]
    except ValueError as error:
        raise stack.StackError(f"PARAMS: {error}") from error
    known = stack.template_parameters()
    for name, equals, _ in pairs:
        if not equals or not name:
            raise stack.StackError(f"PARAMS: {name!r} is not of the form Key=Value")
        if name not in known:
            raise stack.StackError(
                f"PARAMS: {name} is not a parameter of the template; these are: {', '.join(known)}"
            )
    return {name: value for name, _, value in pairs}


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
