"""List prices in us-east-1, in US dollars, without free tiers, as known in November 2026.

Where a price was looked up is beside it. Pages of AWS fill in most of their numbers only when they
are opened; where that page could not be read, it is who quotes it.
"""

# aws.amazon.com/step-functions/pricing
STATE_TRANSITION = 0.025 / 1000  # Standard Workflows
# AWS Compute Blog, "Building cost-effective AWS Step Functions workflows"
EXPRESS_REQUEST = 1.00 / 1_000_000
# wring.co, "AWS Step Functions Pricing Guide"
EXPRESS_GB_SECOND = 0.00001667
# cloudchipr.com, "AWS Lambda Pricing Breakdown"
LAMBDA_REQUEST = 0.20 / 1_000_000
LAMBDA_ARM_GB_SECOND = 0.0000133334
# As they are commonly quoted; not looked up.
S3_PUT = 0.005 / 1000
S3_GET = 0.0004 / 1000
# c3x.dev, "aws_cloudwatch_metric_alarm cost estimation": standard resolution
ALARM_METRIC_MONTH = 0.10
# The peers' way: a rule of AWS Config, and a check of Security Hub CSPM, for each account.
# aws.amazon.com/config/pricing; AWS GCR security solutions, "安全合规持续检测和自动修复费用"
CONFIG_RULE_EVALUATION = 0.001
SECURITY_HUB_CHECK = 0.0010
