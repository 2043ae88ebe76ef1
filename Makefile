# From nothing to a stack in an account, and away again. The account and the region are those of AWS_PROFILE and AWS_REGION.

STACK ?= viral-alerts
# Such as DefaultRegion=ALL ScoringSchedule='rate(1 minute)' FeedUrl= where nothing after = clears a parameter, or file://FILE.yaml
# with such values. A stack keeps the others; docs/operations.md has them all. Neither make nor a shell expands what is in it:
# infra/sam.py reads it from the environment.
PARAMETERS ?=
override PARAMETERS := $(value PARAMETERS)
export PARAMETERS
# The stack of infra/domain.yaml, which leads domain names to STACK.
DOMAIN_STACK ?= viral-alerts-domain

export PATH := $(CURDIR)/target/tools/bin:$(PATH)
export SAM_CLI_TELEMETRY ?= 0
# sam reads only the one, other clients the other. An empty one would hide the region of the profile.
ifneq ($(AWS_REGION),)
export AWS_DEFAULT_REGION ?= $(AWS_REGION)
endif

.PHONY: tools deploy smoke delete account domain

# sam, cargo-lambda and what the smoke test needs, from PyPI. A changed list makes them anew.
tools: target/tools/requirements.txt
target/tools/requirements.txt: tests/requirements.txt
	rm -rf target/tools
	python3 -m venv target/tools
	target/tools/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	cp tests/requirements.txt $@

# Each stack has its artifacts under its own name in the bucket of sam: to delete one leaves those of the others.
deploy: tools
	python infra/sam.py build
	python infra/sam.py deploy --stack-name $(STACK) --s3-prefix $(STACK)

smoke:
	tests/run --target $(STACK)

delete: tools
	@python infra/in_use.py $(STACK)
	sam delete --no-prompts --stack-name $(STACK)
	@echo "$(STACK) is deleted, with its log of alerts and its artifacts. Left: the stack aws-sam-cli-managed-default and its bucket, which all"
	@echo "stacks of sam in this account and region share; and secrets in Parameter Store, which are not of a stack."

# Once per account and region, before SocketAccessLogs=true, and only where API Gateway has no role for logs yet.
account: tools
	sam deploy --template-file infra/account.yaml --config-file $(CURDIR)/samconfig.toml \
	  --stack-name api-gateway-logs --s3-prefix api-gateway-logs

# Leads the domain names in PARAMETERS, or those that it had, to STACK.
domain: tools
	python infra/sam.py Stack=$(STACK) deploy --template-file infra/domain.yaml --config-file $(CURDIR)/samconfig.toml \
	  --stack-name $(DOMAIN_STACK) --s3-prefix $(DOMAIN_STACK)
