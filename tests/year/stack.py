"""The stack as `template.yaml` deploys it: functions with their environment and time limits, state
machines, the table's stream, rules for events. It all runs in this process, in simulated time.
"""

from __future__ import annotations

import importlib.util
import json
import os
import pkgutil
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import yaml
from boto3.dynamodb.types import TypeSerializer
from greenlet import getcurrent

import rootsweep
from rootsweep import root_access
from tests.contract import shipped

from . import clock as clocks
from .clock import expect
from .machine import Execution, Failure, Machine

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterable, Mapping

    from .clock import Clock
    from .table import Item, Table

REGION, PARTITION, STACK = "eu-central-1", "aws", "rootsweep"
# What Lambda waits between three attempts at an event (Lambda guide, "Asynchronous invocation").
PATIENCE_WITH_EVENTS = (60, 120)
LONGEST_PATIENCE_WITH_A_STREAM = 600


class Died(BaseException):
    """When Lambda ends a function. No `except Exception` of the product sees it."""


class Invocation:
    """One run of a function. It dies at its deadline, or before its call number `dies_at`."""

    def __init__(self, name: str, *, now: float, seconds: float, dies_at: int | None) -> None:
        self.name = name
        self.deadline = now + seconds
        self.dies_at = dies_at
        self.is_dead = False
        self.calls = 0
        self.writes: list[str] = []
        self.mails: list[Any] = []

    def excuse_mails(self) -> None:
        """What it could not note, it may do again."""
        for mail in self.mails:
            mail.is_excused = True


@dataclass
class Function:
    """A deployed function."""

    name: str
    module: Any
    seconds: float


@dataclass
class Stream:
    """Changes of the table on their way to a function, which has one batch at a time."""

    function: str
    patterns: list[dict[str, Any]]
    attempts: int
    records: list[dict[str, Any]] = field(default_factory=list)
    is_read: bool = False

    def may_want(self, item: Item) -> bool:
        """Whether the item has the attributes that a pattern asks for."""
        return any(each["dynamodb"]["NewImage"].keys() <= item.keys() for each in self.patterns)


@dataclass
class Trouble:
    """What AWS does to functions: how long each call takes, and what goes wrong."""

    dice: random.Random
    # How often a function dies between two calls, for nothing that it did.
    deaths: float = 0.0002
    # How often the answer to a write is lost, so that boto3 writes again.
    losses: float = 0.001

    def dies_at(self) -> int | None:
        """Before which of its calls the next invocation dies, if it does."""
        return self.dice.randint(1, 40) if self.dice.random() < 40 * self.deaths else None

    def loses_answer(self) -> bool:
        """Whether the answer to the next write is lost."""
        return self.dice.random() < self.losses

    def latency(self, service: str) -> float:
        if service == "sesv2":
            return self.dice.uniform(0.05, 0.4)
        return self.dice.uniform(0.002, 0.03)


class Stack:
    """Everything that is deployed, in one account."""

    def __init__(
        self,
        clock: Clock,
        *,
        account: str,
        parameters: Mapping[str, str],
        trouble: Trouble,
        dice: random.Random,
    ) -> None:
        self.clock = clock
        self.account = account
        self.trouble = trouble
        self.jitter = dice
        self.functions: dict[str, Function] = {}
        self.machines: dict[str, Machine] = {}
        self.files: dict[tuple[str, str], str] = {}
        self.alerts: list[tuple[float, str]] = []
        self.on_alert: Callable[[str], None] = lambda _: None
        self.on_end: Callable[[Execution], None] = lambda _: None
        self.died: list[tuple[float, str]] = []
        # What streams gave up: the function, and what it would have got.
        self.dead: list[tuple[Function, dict[str, Any]]] = []
        self.tell: Callable[[str], None] = lambda _: None
        # The parameters of SSM: value and version by name.
        self.settings: dict[str, tuple[str, int]] = {}
        template = shipped.template()
        self._resources = template["Resources"]
        self._conditions = template["Conditions"]
        self._parameters = {
            name: str(parameters.get(name, parameter.get("Default")))
            for name, parameter in template["Parameters"].items()
        }
        missing = {name for name, value in self._parameters.items() if value == "None"}
        assert not missing, f"parameters without a value: {missing}"
        assert parameters.keys() <= self._parameters.keys(), parameters.keys()
        self._streams: list[Stream] = []
        self._rules: list[dict[str, Any]] = []

    # -- deployment ----------------------------------------------------------------------------

    def deploy(self, aws: Any, table: Table) -> None:
        """Load the code with `aws` in the place of boto3, and connect everything."""
        for module in _product_modules():
            clocks.put_into(module, self.clock)
            _use_aws(module, aws, self)
        root_access._made_iam.cache_clear()
        there = {
            id: resource
            for id, resource in self._resources.items()
            if "Condition" not in resource or self._holds(resource["Condition"])
        }
        for id, resource in there.items():
            properties = resource.get("Properties", {})
            if resource["Type"] == "AWS::Serverless::Function":
                self._deploy_function(id, properties, aws)
        for id, resource in there.items():
            properties = resource.get("Properties", {})
            if resource["Type"] == "AWS::Serverless::StateMachine":
                self._deploy_machine(id, properties)
            if resource["Type"] == "AWS::Events::Rule" and "EventBusName" not in properties:
                self._rules.append(self.resolve(properties))
            if resource["Type"] == "AWS::SSM::Parameter":
                self.settings[self.physical(id)] = str(self.resolve(properties["Value"])), 1
        table.observers.append(self._on_change)

    def _deploy_function(self, id: str, properties: dict[str, Any], aws: Any) -> None:
        name = properties["Handler"].removesuffix(".handler")
        variables = properties.get("Environment", {}).get("Variables", {})
        environment = {key: str(self.resolve(value)) for key, value in variables.items()}
        module = _load(name, environment, aws)
        clocks.put_into(module, self.clock)
        _use_aws(module, aws, self)
        globals = shipped.template()["Globals"]["Function"]
        seconds = float(properties.get("Timeout", globals["Timeout"]))
        self.functions[self._arn(id)] = Function(name, module, seconds)
        for event in properties.get("Events", {}).values():
            if event["Type"] == "DynamoDB":
                filters = event["Properties"]["FilterCriteria"]["Filters"]
                patterns = [json.loads(each["Pattern"]) for each in filters]
                attempts = event["Properties"]["MaximumRetryAttempts"]
                self._streams.append(Stream(self._arn(id), patterns, attempts))

    def _deploy_machine(self, id: str, properties: dict[str, Any]) -> None:
        values = {
            name: str(self.resolve(value))
            for name, value in properties["DefinitionSubstitutions"].items()
        }
        text = (shipped.REPOSITORY / properties["DefinitionUri"]).read_text(encoding="utf-8")
        definition = yaml.load(
            shipped.PLACEHOLDER.sub(lambda match: values[match[1]], text), _YamlLoader
        )
        arn = self.physical(id)
        self.machines[arn] = Machine(arn, definition, self)

    def machine(self, name: str) -> Machine:
        """`sweep` or `remediate`."""
        return self.machines[self._states_arn(name)]

    def function(self, name: str) -> Function:
        """The function of a file."""
        return next(each for each in self.functions.values() if each.name == name)

    def set(self, id: str, value: str) -> None:
        """Change a parameter of SSM."""
        _, version = self.settings[self.physical(id)]
        self.settings[self.physical(id)] = value, version + 1

    def resolve(self, value: Any) -> Any:
        """A value of the template with what its functions come to."""
        if isinstance(value, list):
            return [self.resolve(part) for part in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref":
                return self._ref(argument)
            if name == "Fn::GetAtt":
                return self._attribute(*argument)
            if name == "Fn::Sub":
                assert isinstance(argument, str), argument
                return re.sub(r"\$\{([\w:.]+)\}", self._substituted, argument)
            if name == "Fn::If":
                condition, yes, no = argument
                return self.resolve(yes if self._holds(condition) else no)
            assert not name.startswith("Fn::"), name
        return {name: self.resolve(part) for name, part in value.items()}

    def _substituted(self, match: re.Match[str]) -> str:
        name, _, attribute = match[1].partition(".")
        return str(self._attribute(name, attribute) if attribute else self._ref(name))

    def _ref(self, name: str) -> str:
        pseudo = {
            "AWS::AccountId": self.account,
            "AWS::Partition": PARTITION,
            "AWS::Region": REGION,
            "AWS::StackName": STACK,
            "AWS::URLSuffix": "amazonaws.com",
        }
        return pseudo.get(name) or self._parameters.get(name) or self._known(name)

    def _known(self, name: str) -> str:
        return "" if name in self._parameters else self.physical(name)

    def _attribute(self, id: str, attribute: str) -> str:
        assert attribute in ("Arn", "StreamArn", "Id", "QueueName"), (id, attribute)
        return self._arn(id)

    def physical(self, id: str) -> str:
        """What `Ref` gives: the name of a resource, or the ARN of those that are known by it."""
        type = self._resources[id]["Type"]
        if type == "AWS::Serverless::StateMachine":
            return self._states_arn(id.removesuffix("StateMachine").lower())
        if type == "AWS::SNS::Topic":
            return self._arn(id)
        if type == "AWS::SSM::Parameter":
            return str(self.resolve(self._resources[id]["Properties"]["Name"]))
        return f"{STACK}-{id}"

    def _states_arn(self, name: str) -> str:
        return f"arn:{PARTITION}:states:{REGION}:{self.account}:stateMachine:{STACK}-{name}"

    def _arn(self, id: str) -> str:
        return f"arn:{PARTITION}:any:{REGION}:{self.account}:{id}"

    def _holds(self, condition: str) -> bool:
        ((name, argument),) = self._conditions[condition].items()
        if name == "Fn::Not":
            ((name, argument),) = argument[0].items()
            assert name == "Fn::Equals"
            return len({str(self.resolve(part)) for part in argument}) == 2
        assert name == "Fn::Equals", name
        return len({str(self.resolve(part)) for part in argument}) == 1

    # -- functions -----------------------------------------------------------------------------

    def invoke(self, arn: str, event: Any, done: Callable[[Any], None]) -> None:
        """Run a function by itself; `done` gets its answer or the Failure."""
        function = self.functions[arn]

        def run() -> None:
            done(self.call(function, event))

        self.clock.start(run, after=self.trouble.latency("lambda"))

    def call(self, function: Function, event: Any) -> Any:
        """Run a function here, as Lambda does: in its time, with JSON at both ends."""
        invocation = Invocation(
            function.name,
            now=self.clock.time,
            seconds=function.seconds,
            dies_at=self.trouble.dies_at(),
        )
        here: Any = getcurrent()
        outer = getattr(here, "invocation", None)
        here.invocation = invocation
        context = SimpleNamespace(
            get_remaining_time_in_millis=lambda: int(1000 * (invocation.deadline - self.clock.time))
        )
        try:
            return json.loads(
                json.dumps(function.module.handler(json.loads(json.dumps(event)), context))
            )
        except Died:
            self.died.append((self.clock.time, function.name))
            invocation.excuse_mails()
            return Failure("Sandbox.Timedout", '{"errorMessage":"Task timed out"}')
        except Exception as error:
            expect(not isinstance(error, AssertionError), error)
            told = {"errorMessage": str(error), "errorType": type(error).__name__}
            return Failure(type(error).__name__, json.dumps(told))
        finally:
            here.invocation = outer
            self.latest = invocation

    def passes(self, service: str, *, write: str = "") -> Invocation | None:
        """Let a call to a service take its time. Raises Died where Lambda ends the function."""
        invocation: Invocation | None = getattr(getcurrent(), "invocation", None)
        if invocation is None:
            return None
        if invocation.is_dead:
            raise Died
        invocation.calls += 1
        if invocation.calls == invocation.dies_at:
            invocation.is_dead = True
            raise Died
        self.sleep(self.trouble.latency(service))
        if write:
            invocation.writes.append(write)
        return invocation

    def sleep(self, seconds: float) -> None:
        """What a function does with its time."""
        invocation: Invocation | None = getattr(getcurrent(), "invocation", None)
        if invocation is None:
            self.clock.sleep(seconds)
            return
        if invocation.is_dead:
            raise Died
        self.clock.sleep(min(seconds, max(0.0, invocation.deadline - self.clock.time)))
        if self.clock.time >= invocation.deadline:
            invocation.is_dead = True
            raise Died

    # -- what Step Functions needs -------------------------------------------------------------

    def publish(self, arguments: dict[str, Any]) -> Any:
        assert arguments.keys() <= {"TopicArn", "Subject", "Message"}, arguments
        assert arguments["TopicArn"] == self.physical("AlertTopic")
        assert len(arguments.get("Subject", "")) < 100
        assert "\n" not in arguments.get("Subject", "")
        self.alert(f"{arguments.get('Subject', '')}: {arguments['Message']}")
        return {"MessageId": f"alert-{len(self.alerts)}"}

    def alert(self, text: str) -> None:
        self.alerts.append((self.clock.time, text))
        self.on_alert(text)

    def read_object(self, *, bucket: str, key: str) -> str:
        return self.files[bucket, key]

    def execution_ended(self, execution: Execution) -> None:
        self.on_end(execution)
        detail = {
            "executionArn": execution.arn,
            "stateMachineArn": execution.machine.arn,
            "name": execution.name,
            "status": execution.status,
        }
        self.put_event("aws.states", "Step Functions Execution Status Change", detail)

    # -- events --------------------------------------------------------------------------------

    def put_event(self, source: str, type: str, detail: dict[str, Any]) -> None:
        """What EventBridge does with an event on the default bus."""
        event = {"source": source, "detail-type": type, "detail": detail}
        for rule in self._rules:
            if matches(rule["EventPattern"], event):
                for target in rule["Targets"]:
                    self.clock.start(self._send, target, event, after=0.5)

    def _send(self, target: dict[str, Any], event: dict[str, Any]) -> None:
        known = {"Id", "Arn", "InputTransformer", "RetryPolicy", "DeadLetterConfig"}
        assert target.keys() <= known, target
        transformer = target.get("InputTransformer")
        told: Any = event
        if transformer:
            text = transformer["InputTemplate"]
            for name, path in transformer["InputPathsMap"].items():
                value: Any = event
                for part in path.removeprefix("$.").split("."):
                    value = value[part]
                # A text inside of quotation marks, else JSON.
                text = text.replace(f"<{name}>", json.dumps(value).strip('"'))
            told = json.loads(text)
        if target["Arn"] == self.physical("AlertTopic"):
            self.alert(told if isinstance(told, str) else json.dumps(told))
            return
        self._until_it_works(target["Arn"], told, PATIENCE_WITH_EVENTS)

    def _until_it_works(self, arn: str, event: Any, patience: Iterable[float]) -> bool:
        """Whether it did in the end."""
        for seconds in (0, *patience):
            self.clock.sleep(seconds)
            if not isinstance(self.call(self.functions[arn], event), Failure):
                return True
        return False

    # -- the table's stream --------------------------------------------------------------------

    def _on_change(self, old: Item | None, new: Item | None) -> None:
        record: dict[str, Any] = {}

        def image(item: Item) -> dict[str, Any]:
            return {name: _SERIALIZER.serialize(value) for name, value in item.items()}

        for stream in self._streams:
            if new is not None and stream.may_want(new):
                if not record:
                    images = {"NewImage": image(new)} | ({"OldImage": image(old)} if old else {})
                    record = {"eventName": "MODIFY", "dynamodb": images}
                if any(matches(pattern, record) for pattern in stream.patterns):
                    stream.records.append(record)
                    if not stream.is_read:
                        stream.is_read = True
                        delay = self.trouble.dice.uniform(0.2, 2)
                        self.clock.start(self._deliver, stream, after=delay)

    def _deliver(self, stream: Stream) -> None:
        """In the order of the changes, each at least once."""
        while stream.records:
            batch = stream.records[:10]
            patience = [
                min(2.0**number, LONGEST_PATIENCE_WITH_A_STREAM)
                for number in range(stream.attempts)
            ]
            if not self._until_it_works(stream.function, {"Records": batch}, patience):
                self.tell(f"{len(batch)} changes did not reach {stream.function}")
                self.dead.append((self.functions[stream.function], {"Records": batch}))
            if self.trouble.dice.random() > 0.02:
                del stream.records[: len(batch)]
            self.clock.sleep(0.2)
        stream.is_read = False


_SERIALIZER = TypeSerializer()


def matches(pattern: dict[str, Any], event: Any) -> bool:
    """Whether an event has what a pattern asks for (EventBridge guide, "Event patterns")."""
    if not isinstance(event, dict):
        event = {}  # What is below it does not exist.
    for name, wanted in pattern.items():
        if isinstance(wanted, dict):
            if not matches(wanted, event.get(name)):
                return False
        elif wanted in ([{"exists": True}], [{"exists": False}]):
            if (name in event) is not wanted[0]["exists"]:
                return False
        else:
            expect(all(isinstance(value, str) for value in wanted), f"not understood: {wanted}")
            given = event.get(name)
            if not any(each in wanted for each in (given if isinstance(given, list) else [given])):
                return False
    return True


class _YamlLoader(yaml.SafeLoader):
    """Keeps times as the text that they are."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - the name is PyYAML's
        first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


@cache
def _product_modules() -> list[Any]:
    return [
        importlib.import_module(f"rootsweep.{module.name}")
        for module in pkgutil.iter_modules(rootsweep.__path__)
    ]


@cache
def _code(name: str) -> Any:
    path = shipped.FUNCTIONS / f"{name}.py"
    return compile(path.read_text(encoding="utf-8"), str(path), "exec")


def _load(name: str, environment: dict[str, str], aws: Any) -> Any:
    """The module of a function, with only its own environment, and `aws` for boto3."""
    spec = importlib.util.spec_from_loader(f"year_{name}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(shipped.FUNCTIONS / f"{name}.py")
    before, real = dict(os.environ), sys.modules["boto3"]
    os.environ.clear()
    os.environ.update(environment)
    sys.modules["boto3"] = aws
    try:
        exec(_code(name), vars(module))
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.modules["boto3"] = real
    return module


def _use_aws(module: Any, aws: Any, stack: Stack) -> None:
    """Nothing of the product gets past the pretended AWS or sleeps past its deadline."""
    if "boto3" in vars(module):
        module.boto3 = aws
    if "time" in vars(module):
        module.time.sleep = stack.sleep
    if "secrets" in vars(module):
        module.secrets = SimpleNamespace(
            token_urlsafe=lambda size: f"{stack.jitter.getrandbits(8 * size):x}"
        )
    if "uuid" in vars(module):
        module.uuid = SimpleNamespace(
            uuid4=lambda: SimpleNamespace(hex=f"{stack.jitter.getrandbits(128):032x}")
        )
    if "random" in vars(module):
        module.random = stack.jitter
