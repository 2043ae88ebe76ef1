# From nothing to a stack in an account, and away again. The account and the region are those of AWS_PROFILE and AWS_REGION.

STACK ?= viral-alerts
# Such as "DefaultRegion=ALL LagMax=20000"; docs/operations.md has them all.
PARAMETERS ?=

export PATH := $(CURDIR)/target/tools/bin:$(PATH)
export SAM_CLI_TELEMETRY ?= 0
# sam reads only the one, other clients the other.
export AWS_DEFAULT_REGION ?= $(AWS_REGION)

.PHONY: tools deploy smoke delete account

# sam, cargo-lambda and what the smoke test needs, from PyPI. A changed list makes them anew.
tools: target/tools/requirements.txt
target/tools/requirements.txt: tests/requirements.txt
	rm -rf target/tools
	python3 -m venv target/tools
	target/tools/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	cp tests/requirements.txt $@

deploy: tools
	sam build $(if $(PARAMETERS),--parameter-overrides $(PARAMETERS))
	sam deploy --stack-name $(STACK) $(if $(PARAMETERS),--parameter-overrides $(PARAMETERS))

smoke:
	tests/run --target $(STACK)

delete: tools
	sam delete --stack-name $(STACK)

# Once per account and region, before SocketAccessLogs=true, and only where API Gateway has no role for logs yet.
account: tools
	sam deploy --template-file infra/account.yaml --config-file $(CURDIR)/samconfig.toml --stack-name api-gateway-logs
