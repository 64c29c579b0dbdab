"""Every policy document of the templates, as IAM gets it: transformed, with likely values."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from samcli.yamlhelper import yaml_parse
from samtranslator.translator.transform import transform

from .shipped import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

PSEUDO = {
    "AWS::AccountId": "222222222222",
    "AWS::NoValue": None,
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackName": "rootsweep",
    "AWS::URLSuffix": "amazonaws.com",
}
# What `Ref` and `Fn::GetAtt` give for a resource, with its logical id in the place of its name.
ATTRIBUTES = {
    ("AWS::DynamoDB::Table", "Arn"): "dynamodb:eu-west-1:222222222222:table/{}",
    ("AWS::DynamoDB::Table", "StreamArn"): "dynamodb:eu-west-1:222222222222:table/{}/stream/2026",
    ("AWS::Events::Rule", "Arn"): "events:eu-west-1:222222222222:rule/{}",
    ("AWS::Lambda::Function", "Arn"): "lambda:eu-west-1:222222222222:function:{}",
    ("AWS::Logs::LogGroup", "Arn"): "logs:eu-west-1:222222222222:log-group:{}:*",
    ("AWS::S3::Bucket", "Arn"): "s3:::{}",
    ("AWS::SNS::Topic", "Ref"): "sns:eu-west-1:222222222222:{}",
    ("AWS::SQS::Queue", "Arn"): "sqs:eu-west-1:222222222222:{}",
    ("AWS::StepFunctions::StateMachine", "Ref"): "states:eu-west-1:222222222222:stateMachine:{}",
}
PARAMETERS = {
    "ApprovalSourceNetworks": "192.0.2.0/24",  # The linter knows no ::/0.
    "RootsweepRegion": "eu-west-1",
    "SecurityAccountId": "222222222222",
    "SenderAddress": "rootsweep@example.com",
}


def sam_template(name: str = "template.yaml") -> dict[str, Any]:
    """A template as `sam deploy` sends it, with the code in S3."""
    content: dict[str, Any] = yaml_parse((REPOSITORY / name).read_text())
    if "Transform" in content:
        content["Globals"]["Function"]["CodeUri"] = "s3://bucket/functions.zip"
    for resource in content["Resources"].values():
        for key in ("CodeUri", "ContentUri", "DefinitionUri"):
            if key in resource.get("Properties", {}):
                resource["Properties"][key] = "s3://bucket/content"
    return content


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every policy document of every resource, for both sides of the conditions."""
    for name in ("template.yaml", "member-role.yaml", "member-events.yaml"):
        content = transform(sam_template(name), PARAMETERS, SimpleNamespace(load=dict))
        for side in (1, 2):
            for id, resource in content["Resources"].items():
                values = _Values(content, side).of(resource.get("Properties", {}))
                for document in _documents_in(values):
                    yield id, document


def _documents_in(value: Any) -> Iterator[dict[str, Any]]:
    match value:
        case {"Statement": _}:
            yield value
        case dict():
            for inside in value.values():
                yield from _documents_in(inside)
        case list():
            for inside in value:
                yield from _documents_in(inside)


class _Values:
    """Puts values in the place of CloudFormation's functions."""

    def __init__(self, content: dict[str, Any], side: int) -> None:
        self.parameters = {
            id: PARAMETERS.get(id, str(parameter.get("Default")))
            for id, parameter in content.get("Parameters", {}).items()
        }
        self.resources = content["Resources"]
        self.side = side

    def of(self, value: Any) -> Any:
        match value:
            case {"Ref": name}:
                return self._attribute(name, "Ref")
            case {"Fn::GetAtt": [name, attribute]}:
                return self._attribute(name, attribute)
            case {"Fn::Sub": [text, words]}:
                return self._sub(text, self.of(words))
            case {"Fn::Sub": text}:
                return self._sub(text, {})
            case {"Fn::If": sides}:
                return self.of(sides[self.side])
            case {"Fn::Join": [between, parts]}:
                return between.join(self.of(parts))
            case {"Fn::Split": [between, text]}:
                return self.of(text).split(between)
            case dict():
                return {
                    key: self.of(inside)
                    for key, inside in value.items()
                    if inside != {"Ref": "AWS::NoValue"}
                }
            case list():
                return [got for got in map(self.of, value) if got is not None]
        return value

    def _sub(self, text: str, words: dict[str, str]) -> str:
        def word(match: re.Match[str]) -> str:
            name, _, attribute = match[1].partition(".")
            return words[name] if name in words else self._attribute(name, attribute or "Ref")

        return re.sub(r"\$\{([^!}]+)\}", word, text)

    def _attribute(self, name: str, attribute: str) -> Any:
        if name in PSEUDO:
            return PSEUDO[name]
        if name in self.parameters:
            return self.parameters[name]
        resource = self.resources[name]
        if (arn := ATTRIBUTES.get((resource["Type"], attribute))) is not None:
            return f"arn:aws:{arn.format(name)}"
        return self.of(resource.get("Properties", {}).get("Name", name))
