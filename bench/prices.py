"""List prices in us-east-1, in US dollars, without free tiers, as known in November 2026.

That of a state transition is from aws.amazon.com/step-functions/pricing. The others are as they are
commonly quoted, and were not looked up on the pages of their services.
"""

STATE_TRANSITION = 0.025 / 1000  # Step Functions, Standard Workflows
EXPRESS_REQUEST = 1.00 / 1_000_000  # Step Functions, Express Workflows
EXPRESS_GB_SECOND = 0.00001667
LAMBDA_REQUEST = 0.20 / 1_000_000
LAMBDA_ARM_GB_SECOND = 0.0000133334
S3_PUT = 0.005 / 1000
S3_GET = 0.0004 / 1000
ALARM_METRIC_MONTH = 0.10  # CloudWatch, standard resolution
# The peers' way: a rule of AWS Config, and a check of Security Hub CSPM, for each account.
CONFIG_RULE_EVALUATION = 0.001
SECURITY_HUB_CHECK = 0.0010
