"""Writes docs/sbom.json, what is deployed, and docs/licences.md, also of the tools."""

from __future__ import annotations

import json
import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
SBOM = REPOSITORY / "docs/sbom.json"
LICENCES = REPOSITORY / "docs/licences.md"
LAMBDA = {"python_version": "3.13", "python_full_version": "3.13.0", "extra": ""}

# They ask for no more than a notice.
DEPLOYED = {"Apache-2.0", "BSD-3-Clause", "MIT"}
# Nothing of it is passed on, so the MPL, which is about changed files, does not matter either.
TOOLS = DEPLOYED | {
    "0BSD",
    "Artistic-1.0-Perl",
    "BSD",
    "BSD-2-Clause",
    "CC0-1.0",
    "CNRI-Python",
    "MIT-0",
    "MPL-2.0",
    "PSF-2.0",
    "Zlib",
}
# The words of packages that do not write SPDX.
SPDX = {
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# By the text of the licence, where the package's own words are missing or say too little.
READ = {
    "axe-playwright-python": "MIT AND MPL-2.0",
    "cookiecutter": "BSD-3-Clause",
    # Else in the public domain; what is under the GPL is for an editor, and not in the package.
    "docutils": "BSD-2-Clause AND BSD-3-Clause AND PSF-2.0",
    "jinja2": "BSD-3-Clause",
    "junit-xml": "MIT",
    "python-dateutil": "Apache-2.0 OR BSD-3-Clause",
    "text-unidecode": "Artistic-1.0-Perl OR GPL-2.0-or-later",
}


def pinned(path: str) -> dict[str, str]:
    """The versions in a list of packages, but for those that only some machines install."""
    text = (REPOSITORY / path).read_text()
    return dict(re.findall(r"^([\w.-]+)==([\w.]+) \\$", text, re.MULTILINE))


def installed(environment: Path) -> dict[str, Distribution]:
    [packages] = environment.glob("lib/python3.*/site-packages")
    return {canonicalize_name(found.name): found for found in distributions(path=[str(packages)])}


def licence(package: Distribution) -> str:
    said = package.metadata
    if (name := canonicalize_name(package.name)) in READ:
        return READ[name]
    if expression := said["License-Expression"]:
        return str(expression)
    classifiers = [text for text in said.get_all("Classifier") or [] if "License ::" in text]
    found = [text.rpartition(" :: ")[2] for text in classifiers] or [str(said["License"]).strip()]
    return " AND ".join(sorted(SPDX.get(text, text) for text in found))


def is_one_of(expression: str, allowed: set[str]) -> bool:
    """Whether a licence is allowed: of alternatives one, of what holds together all."""
    enough = all if " AND " in expression else any
    return enough(part.strip("() ") in allowed for part in re.split(" AND | OR ", expression))


def sbom(here: dict[str, Distribution]) -> str:
    versions = pinned("functions/requirements.txt")
    wanted = (REPOSITORY / "functions/requirements.in").read_text().split()
    components: list[dict[str, Any]] = []
    dependencies = [{"ref": "rootsweep", "dependsOn": [_purl(name, versions) for name in wanted]}]
    for name, version in versions.items():
        if here[name].version != version:
            raise SystemExit(f"{name} {version} is pinned, {here[name].version} is installed")
        required = map(Requirement, here[name].requires or [])
        needs = sorted(
            canonicalize_name(one.name)
            for one in required
            if one.marker is None or one.marker.evaluate(LAMBDA)
        )
        components.append(
            {
                "type": "library",
                "bom-ref": _purl(name, versions),
                "name": name,
                "version": version,
                "licenses": [{"expression": licence(here[name])}],
                "purl": _purl(name, versions),
            }
        )
        dependencies.append(
            {"ref": _purl(name, versions), "dependsOn": [_purl(one, versions) for one in needs]}
        )
    project = {
        "type": "application",
        "bom-ref": "rootsweep",
        "name": "rootsweep",
        "licenses": [{"expression": "Apache-2.0"}],
    }
    content = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": project},
        "components": components,
        "dependencies": dependencies,
    }
    return json.dumps(content, indent=2) + "\n"


def _purl(name: str, versions: dict[str, str]) -> str:
    return f"pkg:pypi/{name}@{versions[name]}"


def licences(here: dict[str, Distribution], checks: dict[str, Distribution]) -> str:
    lines = [
        "# Licences",
        "",
        "Written by `make sbom`. Rootsweep itself is under the [Apache License 2.0](../LICENSE).",
        "",
        "## What is deployed",
        "",
        "| Package | Version | Licence |",
        "| --- | --- | --- |",
    ]
    for name, version in pinned("functions/requirements.txt").items():
        lines.append(f"| {name} | {version} | {licence(here[name])} |")
    for title, path, found in (
        ("The tools", "requirements-dev.txt", here),
        ("The tools that need an environment of their own", "requirements-checks.txt", checks),
    ):
        lines += ["", f"## {title}", "", "| Licence | Packages |", "| --- | --- |"]
        kinds: dict[str, list[str]] = {}
        for name in pinned(path):
            kinds.setdefault(licence(found[name]), []).append(name)
        lines += [f"| {kind} | {', '.join(names)} |" for kind, names in sorted(kinds.items())]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    here, checks = installed(Path(sys.prefix)), installed(REPOSITORY / ".venv-checks")
    SBOM.write_text(sbom(here))
    LICENCES.write_text(licences(here, checks))
