# The two commands a newcomer needs are `make demo` and `make test`. Each does
# all its own set-up; what it downloads is pinned here, in go.sum, or by hash.

GOLANGCI_LINT := v2.15.0
HELM := v4.3.1
KUBECONFORM := v0.8.0
KUBERNETES_SCHEMAS := 1.37.0
TOOLS := $(CURDIR)/.cache/tools
GO ?= go
# Tests start real servers; a few packages at a time is right for two cores.
TESTFLAGS ?= -race

.PHONY: demo build tools module test soak bench bench-page bench-module fuzz lint deps clean

demo: ## real devices come to life: hubgate, Envoy, an MQTT broker, a backend
	@$(GO) run ./cmd/hubgate demo $(DEMOFLAGS)

build: ## bin/hubgate
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/hubgate ./cmd/hubgate

module: ## bin/libhubgate.so, the library that Envoy loads
	CGO_ENABLED=1 $(GO) build -trimpath -buildmode=c-shared -ldflags '-s -w' -o bin/libhubgate.so ./envoy/module

test: deps tools ## everything, with the race detector, on real servers
	$(GO) test $(TESTFLAGS) ./...

soak: deps tools ## the long loops; run before a release
	HUBGATE_SOAK=1 $(GO) test -timeout 60m $(TESTFLAGS) ./...

bench: deps ## hubgate beside a stock server, then the parts: the decision path and the stores
	$(GO) run ./bench
	$(GO) test -run '^$$' -bench . -benchmem ./trust/... ./provision/... ./authz/...

bench-page: deps ## measure anew what docs/performance.md shows
	$(GO) run ./bench -json docs/performance.json
	$(GO) run ./bench -page docs

bench-module: deps ## an Envoy with the library beside one without it
	$(GO) test -run '^$$' -bench Module -benchtime 1x ./e2e/sessions

FUZZTIME ?= 30s
fuzz: ## each fuzz target for FUZZTIME
	@set -e; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
	    echo "== $$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg; \
	  done; \
	done

lint: $(TOOLS)/golangci-lint-$(GOLANGCI_LINT)
	$(TOOLS)/golangci-lint-$(GOLANGCI_LINT) run ./...

$(TOOLS)/golangci-lint-$(GOLANGCI_LINT):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT)
	@mv $(TOOLS)/golangci-lint $@

deps: ## what tests run against: redis-server and mosquitto; Envoy comes by hash
	@./scripts/deps

tools: $(TOOLS)/helm-$(HELM) $(TOOLS)/kubeconform-$(KUBECONFORM) $(TOOLS)/schemas-$(KUBERNETES_SCHEMAS) ## what the chart's tests run

$(TOOLS)/helm-$(HELM):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) $(GO) install -ldflags '-s -w' helm.sh/helm/v4/cmd/helm@$(HELM)
	@mv $(TOOLS)/helm $@

$(TOOLS)/kubeconform-$(KUBECONFORM):
	@mkdir -p $(TOOLS)
	GOBIN=$(TOOLS) $(GO) install -ldflags '-s -w' github.com/yannh/kubeconform/cmd/kubeconform@$(KUBECONFORM)
	@mv $(TOOLS)/kubeconform $@

$(TOOLS)/schemas-$(KUBERNETES_SCHEMAS):
	@./scripts/schemas $(KUBERNETES_SCHEMAS) $@

clean:
	rm -rf bin .cache
