"""The errors that the state machines know by name.

Step Functions matches `ErrorEquals` against the exact class name, so these names are part of the
contract with `statemachine/`; a contract test holds the two together.
"""


class InvalidSweepInputError(Exception):
    """When the input of a sweep has an unknown field or a value that is not allowed."""


class PrerequisiteError(Exception):
    """When the organization or this stack lacks something that a sweep cannot do without."""


class ApproverUnknownError(Exception):
    """When AWS does not say for the moment who answers for an account."""


class MailPendingError(Exception):
    """When another case has been writing to the same approver for too long."""


class RootSessionDeniedError(Exception):
    """When AWS refuses a root session for an account, or refuses what was asked in it."""


class KeysChangedError(Exception):
    """When an account has root access keys that nobody approved; a human must see them first."""


class RootKeysRemainError(Exception):
    """When root access keys are still there after they were deleted; IAM may need a moment."""


class KillSwitchOnError(Exception):
    """When deletions are stopped for now, or nobody can tell whether they are."""


class CanaryPendingError(Exception):
    """When a first deletion after a deployment runs alone, and it is not this one's turn."""


class QuarantineImpossibleError(Exception):
    """When AWS does not let the root user of an account be blocked."""


class NotApprovedError(Exception):
    """When a deletion is asked for that no recorded decision covers."""


class CaseEndedError(Exception):
    """When a step arrives for a case that has ended already, or is no longer the open one."""
