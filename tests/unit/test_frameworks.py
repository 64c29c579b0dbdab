from __future__ import annotations

from rootsweep.frameworks import REQUIREMENTS, SECURITY_HUB

# "Related requirements" of [IAM.4] in the Security Hub User Guide, as it was read in November 2026.
RELATED = (
    "CIS AWS Foundations Benchmark v5.0.0/1.3, CIS AWS Foundations Benchmark v3.0.0/1.4, "
    "CIS AWS Foundations Benchmark v1.4.0/1.4, CIS AWS Foundations Benchmark v1.2.0/1.12, "
    "PCI DSS v3.2.1/2.1, PCI DSS v3.2.1/2.2, PCI DSS v3.2.1/7.2.1, NIST.800-53.r5 AC-2(1), "
    "NIST.800-53.r5 AC-3(15), NIST.800-53.r5 AC-3(7), NIST.800-53.r5 AC-6, "
    "NIST.800-53.r5 AC-6(10), NIST.800-53.r5 AC-6(2)"
)
# Titles of Tenable's audits of the benchmark; of some versions there is one for each of two keys.
TENABLE = {
    "v1.3.0": "1.4 Ensure no root user account access key exists - 'Access Key 2'",
    "v1.5.0": "1.4 Ensure no 'root' user account access key exists - 'Access Key 1'",
    "v2.0.0": "1.4 Ensure no 'root' user account access key exists - 'Access Key 1'",
    "v4.0.1": "1.4 Ensure no 'root' user account access key exists",
    "v7.0.0": "2.4 Ensure no 'root' user account access key exists",
}


def test_what_rests_on_security_hub_is_exactly_what_its_guide_says() -> None:
    ours = set()
    for each in REQUIREMENTS:
        if each.source == SECURITY_HUB and each.id != "IAM.4":
            framework = "NIST.800-53.r5" if each.framework == "NIST SP 800-53" else each.framework
            version = "" if framework.startswith("NIST") else f"{each.version}/"
            ours.add(f"{framework} {version}{each.id}")

    assert ours == set(RELATED.split(", "))


def test_other_versions_of_the_benchmark_are_those_of_a_published_audit() -> None:
    others = {each.version: each for each in REQUIREMENTS if each.source != SECURITY_HUB}

    assert others.keys() == TENABLE.keys()
    for version, title in TENABLE.items():
        assert title.startswith(f"{others[version].id} ")
        assert f"Foundations_{version}_L1" in others[version].source


def test_only_what_is_the_check_itself_is_said_to_be_all_of_a_requirement() -> None:
    assert {each.framework for each in REQUIREMENTS if each.is_all} == {
        "AWS Security Hub CSPM",
        "CIS AWS Foundations Benchmark",
    }
    assert len({each[:3] for each in REQUIREMENTS}) == len(REQUIREMENTS)
