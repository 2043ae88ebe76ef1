# From nothing to a stack in an account, and away again. The account and the region are those of AWS_PROFILE and AWS_REGION.

STACK ?= viral-alerts
# Such as DefaultRegion=ALL ScoringSchedule='rate(1 minute)' FeedUrl= where nothing after = clears a parameter, or file://FILE.yaml
# with such values. A stack keeps the others; docs/operations.md has them all.
PARAMETERS ?=
# The stack of infra/domain.yaml, which leads domain names to STACK.
DOMAIN_STACK ?= viral-alerts-domain

export PATH := $(CURDIR)/target/tools/bin:$(PATH)
export SAM_CLI_TELEMETRY ?= 0
# sam reads only the one, other clients the other. An empty one would hide the region of the profile.
ifneq ($(AWS_REGION),)
export AWS_DEFAULT_REGION ?= $(AWS_REGION)
endif

# sam takes values with spaces, and empty ones, only between quotes of its own: PARAMETERS as options of sam in "$@", or nothing.
overrides = set -- $(PARAMETERS); for word do shift; \
	case $$word in file://*) ;; *) word="$${word%%=*}=\"$${word\#*=}\"" ;; esac; \
	set -- "$$@" "$$word"; done; [ $$\# = 0 ] || set -- --parameter-overrides "$$@";

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
	$(overrides) sam build "$$@" && sam deploy --stack-name $(STACK) --s3-prefix $(STACK) "$$@"

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
	$(overrides) [ $$# != 0 ] || set -- --parameter-overrides; \
	sam deploy --template-file infra/domain.yaml --config-file $(CURDIR)/samconfig.toml \
	  --stack-name $(DOMAIN_STACK) --s3-prefix $(DOMAIN_STACK) "$$@" Stack=$(STACK)
