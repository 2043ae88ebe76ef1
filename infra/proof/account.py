"""What an account allows: its quotas, as it says them."""

from botocore.exceptions import BotoCoreError, ClientError

from plan import Account

# Quotas of the service `apigateway`. Source: Service Quotas, where each has the same code in all regions.
REQUESTS = "L-8A5B8E43"
CONNECTIONS = "L-9ED1E49A"


def looked_up(session, say):
    """Reads the quotas of the account. What it may not read, or does not find, is None."""

    def asked(what, ask):
        try:
            return ask()
        except (BotoCoreError, ClientError, KeyError) as error:
            say(f"cannot read {what}: {error}")
            return None

    quotas = session.client("service-quotas")

    def quota(code):
        try:
            found = quotas.get_service_quota(ServiceCode="apigateway", QuotaCode=code)
        except quotas.exceptions.NoSuchResourceException:
            found = quotas.get_aws_default_service_quota(ServiceCode="apigateway", QuotaCode=code)
        return found["Quota"]["Value"]

    return Account(
        asked("the concurrency of Lambda", lambda: concurrency(session)),
        asked("the request quota of API Gateway", lambda: quota(REQUESTS)),
        asked("the quota of new WebSocket connections", lambda: quota(CONNECTIONS)),
    )


def concurrency(session):
    """Returns how many executions are not reserved for functions of the account."""
    return session.client("lambda").get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"]
