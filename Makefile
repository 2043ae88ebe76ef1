# Deploys, tests and deletes a stack in the account and region of AWS_PROFILE and AWS_REGION.

# Names reach the recipes through the environment, so that neither make nor a shell expands them.
STACK ?= viral-alerts
override STACK := $(value STACK)
export STACK
# Parameters of the template, such as DefaultRegion=ALL ScoringSchedule='rate(1 minute)', or file://FILE.yaml with
# them. An empty value clears a parameter, and the stack keeps those that are not named. docs/operations.md lists all.
# infra/sam.py reads them from the environment, so neither make nor a shell expands them.
PARAMETERS ?=
override PARAMETERS := $(value PARAMETERS)
export PARAMETERS
# The stack of infra/domain.yaml, which maps domain names to STACK.
DOMAIN_STACK ?= viral-alerts-domain
override DOMAIN_STACK := $(value DOMAIN_STACK)
export DOMAIN_STACK

export PATH := $(CURDIR)/target/tools/bin:$(PATH)
export SAM_CLI_TELEMETRY ?= 0
# sam reads only AWS_DEFAULT_REGION. An empty value would hide the region of the profile.
ifneq ($(AWS_REGION),)
export AWS_DEFAULT_REGION ?= $(AWS_REGION)
endif

# Further tags of the stack, such as team=video. infra/proof sets one.
TAGS ?=
# Options of `make proof`, such as --clients 1000: infra/proof/README.md lists them.
PROOF ?=

# The bucket for `make package`. Without it that of sam.
BUCKET ?=
override BUCKET := $(value BUCKET)
export BUCKET

.PHONY: tools deploy package smoke delete forget account domain proof proof-clean

# Installs sam, cargo-lambda and what the smoke test needs from PyPI, again after the list has changed.
tools: target/tools/requirements.txt
target/tools/requirements.txt: tests/requirements.txt
	rm -rf target/tools
	python3 -m venv target/tools
	target/tools/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
	cp tests/requirements.txt $@

# Each stack has its artifacts under its own name in sam's bucket, so deleting one keeps those of the others.
deploy: tools
	python infra/sam.py build
	python infra/sam.py deploy --stack-name "$$STACK" --s3-prefix "$$STACK" \
	  $(if $(TAGS),--tags application=viral-alerts $(TAGS))

# For those who deploy with other tools: uploads the functions, and writes the template that names them.
package: tools
	python infra/sam.py build
	sam package $(if $(BUCKET),--s3-bucket "$$BUCKET",--resolve-s3) --s3-prefix "$$STACK" \
	  --output-template-file packaged.yaml

smoke:
	tests/run --target "$$STACK"

delete: tools
	@python infra/in_use.py "$$STACK"
	sam delete --no-prompts --stack-name "$$STACK"
	@printf '%s is deleted, with its log of alerts and its artifacts. Two things are left: the stack\n' "$$STACK"
	@echo "aws-sam-cli-managed-default with its bucket, which all stacks of sam in this account and region share,"
	@echo "and secrets in Parameter Store, which belong to no stack."

# Deletes what the tables of STACK have of the user with this `sub` of tokens: make forget USER=ola. STACK=local is the
# local mode whose variables are set. The environment has a USER too, which is whoever logged in.
ifeq ($(origin USER),command line)
override USER := $(value USER)
forget: export FORGET_USER := $(USER)
endif
forget: tools
	@python infra/forget.py "$$STACK"

# Run it once per account and region, before SocketAccessLogs=true, if API Gateway has no role for logs yet.
account: tools
	sam deploy --template-file infra/account.yaml --config-file "$(CURDIR)/samconfig.toml" \
	  --stack-name api-gateway-logs --s3-prefix api-gateway-logs

# Maps the domain names in PARAMETERS, or the current ones, to STACK.
domain: tools
	python infra/sam.py "Stack=$$STACK" deploy --template-file infra/domain.yaml \
	  --config-file "$(CURDIR)/samconfig.toml" --stack-name "$$DOMAIN_STACK" --s3-prefix "$$DOMAIN_STACK"

# Measures the service in this account for less than $$5, and takes everything away: see infra/proof/README.md.
proof: tools
	@python infra/proof/prove.py run $(PROOF)

# Takes away what a proof has left that was killed, and the proof of another checkout with its name in PROOF.
proof-clean: tools
	@python infra/proof/prove.py clean $(PROOF)
