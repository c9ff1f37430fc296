.DEFAULT_GOAL := help

# A target with `## words` behind it is listed by `make help`.

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: deps
deps: ## installs the system packages that building and testing need
	@bash .ci/deps
