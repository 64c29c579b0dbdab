"""Which requirements of which frameworks the check for root access keys is about.

Only what a source says is here, and each row names its own. PCI DSS v4 is not: AWS relates none of
its requirements to this check.
"""

from __future__ import annotations

from typing import NamedTuple

# Security Hub User Guide, "Security Hub controls for IAM", [IAM.4]: "Related requirements".
SECURITY_HUB = "https://docs.aws.amazon.com/securityhub/latest/userguide/iam-controls.html#iam-4"
# Tenable's audits of the benchmark: the number and the title of each recommendation.
_TENABLE = "https://www.tenable.com/audits/items/CIS_Amazon_Web_Services_Foundations_{}_L1.{}"


class Requirement(NamedTuple):
    """A requirement that an account with a root access key does not meet.

    `is_all` says that it asks for nothing else. Otherwise a root access key is a part of what it is
    about, and an account without one may fail it for other reasons.
    """

    framework: str
    version: str
    id: str
    name: str
    is_all: bool
    source: str


def _cis(version: str, id: str, audit: str = "") -> Requirement:
    source = _TENABLE.format(f"v{version}", audit) if audit else SECURITY_HUB
    name = "Ensure no 'root' user account access key exists"
    return Requirement("CIS AWS Foundations Benchmark", f"v{version}", id, name, True, source)


def _pci(id: str, name: str) -> Requirement:
    return Requirement("PCI DSS", "v3.2.1", id, name, False, SECURITY_HUB)


def _nist(id: str, name: str) -> Requirement:
    return Requirement("NIST SP 800-53", "Rev. 5", id, name, False, SECURITY_HUB)


REQUIREMENTS = (
    Requirement(
        *("AWS Security Hub CSPM", "", "IAM.4", "IAM root user access key should not exist"),
        is_all=True,
        source=SECURITY_HUB,
    ),
    _cis("7.0.0", "2.4", "audit:befdf1920000678a2a620ce196e09af4"),
    _cis("5.0.0", "1.3"),
    _cis("4.0.1", "1.4", "audit:49d531b33c75eec2552ff59c700fdedf"),
    _cis("3.0.0", "1.4"),
    _cis("2.0.0", "1.4", "audit:9493952c91d74b2f186e4acb6ca80899"),
    _cis("1.5.0", "1.4", "audit:9493952c91d74b2f186e4acb6ca80899"),
    _cis("1.4.0", "1.4"),
    _cis("1.3.0", "1.4", "audit:50761975e781d1facd56798ed9036488"),
    _cis("1.2.0", "1.12"),
    # Their names, shortened, are those of "PCI DSS controls", [PCI.IAM.1], of the same guide.
    _pci("2.1", "Remove or disable unnecessary default accounts"),
    _pci("2.2", "Develop configuration standards for all system components"),
    _pci("7.2.1", "Access control system: coverage of all system components"),
    # Their names are those of the catalogue of NIST SP 800-53.
    _nist("AC-2(1)", "Automated System Account Management"),
    _nist("AC-3(7)", "Role-based Access Control"),
    _nist("AC-3(15)", "Discretionary and Mandatory Access Control"),
    _nist("AC-6", "Least Privilege"),
    _nist("AC-6(2)", "Non-privileged Access for Nonsecurity Functions"),
    _nist("AC-6(10)", "Prohibit Non-privileged Users from Executing Privileged Functions"),
)
