# Isthmus. `make demo` shows it, `make test` proves it; `make help` lists the rest.

# toolchain.env names the Go release that everything is built with; the go
# command fetches it. A toolchain line in go.mod would not do: where GOTOOLCHAIN
# is "local" it is ignored, and Go before 1.27.3 has a map race in net/http that
# lets any HTTP/2 client crash a server.
include toolchain.env
export GOTOOLCHAIN

VERSION     ?= dev
HUB         ?= isthmus.local
TAG         ?= $(VERSION)
STATICCHECK  = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOVULNCHECK  = golang.org/x/vuln/cmd/govulncheck@v1.9.0

LDFLAGS = -s -w -X github.com/isthmus-mesh/isthmus/version.Version=$(VERSION)
GOBUILD = CGO_ENABLED=0 go build -trimpath -ldflags "$(LDFLAGS)"

# gRPC's tracing page pulls in html/template, whose reflection keeps the linker
# from dropping unused methods: 25 MB with it, 17 MB without.
PROXYBUILD = $(GOBUILD) -tags grpcnotrace

# Clusters' images are for Linux, whatever the machine that builds them.
IMAGE_ARCH ?= $(shell go env GOARCH)
LINUX_BIN   = bin/linux-$(IMAGE_ARCH)

.PHONY: help h2spec build built-with vuln generate images lab deps demo demo-down test lint cc unit verdicts e2e fuzz bench bench-discovery bench-quick bench-failover clean

help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

build: generate ## Build bin/isthmus, bin/istioctl and bin/isthmus-proxy
	@mkdir -p bin
	$(GOBUILD) -o bin/isthmus ./cmd/isthmus
	$(if $(filter linux,$(shell go env GOOS)),$(PROXYBUILD) -o bin/isthmus-proxy ./cmd/isthmus-proxy)
	@ln -sf isthmus bin/istioctl
	@bin/istioctl collateral --bash -o tools >/dev/null

generate: ## Write the CRDs that the istio.io/api module carries into charts/base
	@go generate ./install/...

$(LINUX_BIN): build
	@mkdir -p $(LINUX_BIN)
	GOOS=linux GOARCH=$(IMAGE_ARCH) $(GOBUILD) -o $(LINUX_BIN)/isthmus ./cmd/isthmus
	GOOS=linux GOARCH=$(IMAGE_ARCH) $(PROXYBUILD) -o $(LINUX_BIN)/isthmus-proxy ./cmd/isthmus-proxy
.PHONY: $(LINUX_BIN)

images: $(LINUX_BIN) ## Pack the binaries as the images that clusters run: dist/images
	@mkdir -p dist/images
	bin/isthmus image save --hub $(HUB) --tag $(TAG) --binary $(LINUX_BIN)/isthmus --proxy-binary $(LINUX_BIN)/isthmus-proxy -o dist/images

lab: ## Build bin/lab: real Kubernetes clusters on this machine
	@mkdir -p bin
	cd lab && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o ../bin/lab .

deps: lab ## Install the Debian packages that the lab needs (where this user may)
	@bin/lab deps --install

demo: ## Two clusters, one mesh, a call across (CONTEXTS="a b" HUB=… for your own clusters)
	@CONTEXTS="$(CONTEXTS)" HUB="$(HUB)" TAG="$(TAG)" bash demo/demo.sh

demo-down: ## Remove what the demo left running
	bin/lab down

test: lint unit h2spec e2e built-with ## Everything that CI runs

built-with: build lab # A binary made by an older Go than toolchain.env names must not pass
	@for b in bin/isthmus bin/isthmus-proxy bin/lab; do \
		v=$$(go version $$b | awk '{print $$2}'); echo "$$b: built with $$v"; \
		[ "$$(printf '%s\n' $(GOTOOLCHAIN) $$v | sort -V | head -n 1)" = $(GOTOOLCHAIN) ] || { echo "$$b: needs $(GOTOOLCHAIN) or newer"; exit 1; }; \
	done

lint: generate ## gofmt, vet, staticcheck, in both modules
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); if [ -n "$$out" ]; then echo "gofmt -w needed:"; echo "$$out"; exit 1; fi
	go vet ./...
	go vet -tags e2e ./test/...
	cd lab && go vet ./...
	go run $(STATICCHECK) ./...
	go run $(STATICCHECK) -tags e2e ./test/...
	cd lab && go run $(STATICCHECK) ./...

cc: # The race detector is the one thing here that wants a C compiler
	@command -v gcc >/dev/null || { apt-get update && apt-get install -y gcc libc6-dev; } || { echo "install a C compiler (Debian: gcc libc6-dev): go test -race needs it"; exit 1; }

unit: generate cc ## Tests in process, with the race detector
	CGO_ENABLED=1 go test -race -timeout 10m ./...
	cd lab && go test ./...

h2spec: ## The HTTP/2 conformance suite against the proxy, a minute
	@mkdir -p bin
	cd test/h2spec && go build -o ../../bin/h2spec github.com/summerwind/h2spec/cmd/h2spec
	H2SPEC=$(CURDIR)/bin/h2spec go test -count=1 -run TestH2Spec ./proxy/httpproxy

verdicts: ## What is accepted and refused here, beside Istio's own validator
	@mkdir -p bin
	cd test/verdicts && go build -o ../../bin/verdicts .
	ISTIO_VERDICTS=$(CURDIR)/bin/verdicts go test -count=1 -v -run TestVerdicts ./test/istioapi

e2e: deps lab images ## The lab: real clusters, the commands as people type them
	go test -tags e2e -count=1 -timeout 60m -v ./test/e2e

vuln: ## Look both modules up in the Go vulnerability database (needs the network)
	go run $(GOVULNCHECK) ./...
	cd lab && go run $(GOVULNCHECK) ./...

FUZZTIME ?= 30s
fuzz: ## Run every fuzz target for FUZZTIME
	@bash test/fuzz.sh $(FUZZTIME)

# What make bench measures as discovery, a program of its own.
bench-discovery: build
	$(GOBUILD) -o bin/bench-discovery ./bench/discovery

bench: bench-discovery ## Figures beside haproxy, nginx and Envoy: docs/performance.md (10 minutes, root)
	@sh bench/install-deps.sh
	go run ./bench run --doc docs/performance.md --json bench/results.json

bench-quick: bench-discovery ## The same within a minute, for an impression
	@sh bench/install-deps.sh
	go run ./bench run --quick

bench-failover: deps lab images ## Break things in two clusters, count what callers notice: docs/failover.md (15 minutes and more, root; FAILOVER="--gets 50 …": go run ./bench failover --help)
	go run ./bench failover $(FAILOVER) --doc docs/failover.md --json bench/failover.json

clean:
	rm -rf bin dist
