# `make help` lists the targets. The only things needed are git, make and Python >= 3.11.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
ARGS ?=
PROMETHEUS := v0.316.0
# Called with TAG DOCKERFILE CONTEXT: builds an image and hands it to the cluster.
IMAGE_BUILD ?= ./tests/e2e/build-image
IMAGES ?= consumer operator console

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## Make .venv with everything, pinned by requirements.lock

$(INSTALLED): requirements.lock api/pyproject.toml console/pyproject.toml consumer/pyproject.toml embedded/pyproject.toml operator/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.13 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/python -m uv pip install --quiet --python $(BIN)/python --no-deps --editable api --editable console --editable consumer --editable embedded --editable operator
	$(BIN)/python -m compileall -q .venv/lib api console consumer embedded operator > /dev/null || true  # some packages ship templates that do not compile
	@touch $@

.PHONY: demo
demo: $(INSTALLED) ## Run the main job on embedded servers, kill it in the middle, prove that nothing is lost or double
	$(BIN)/marketprism demo $(ARGS)

.PHONY: test
test: ## Everything that must pass, about half an hour
	$(MAKE) lint unit docs
	@# Two cores: the simulator takes one, and tests that wait for servers hardly use the other.
	$(MAKE) -j 4 --output-sync=target storage-commands storage-console control-plane storage-operations storage-path beside-storage
	$(MAKE) faults monitoring

.PHONY: beside-storage
beside-storage: $(INSTALLED)
	$(MAKE) sim
	$(MAKE) tiering

.PHONY: lint
lint: $(INSTALLED) ## Style, types, layers, generated files
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m marketprism_api.crds --check crds
	$(BIN)/python -m marketprism_api.reasons_page --check docs/reference/reasons.md
	$(BIN)/python helm/generate.py --check
	$(BIN)/python -m pages --check
	$(BIN)/python -m monitoring.dashboards --check

.PHONY: unit
unit: $(INSTALLED) ## Pure tests: values, messages, batches, resources (seconds)
	$(BIN)/pytest tests/unit tests/api tests/operator --ignore tests/operator/controlplane $(ARGS)

.PHONY: fuzz
fuzz: $(INSTALLED) ## The kernel against the one rule, five million times each (minutes)
	MARKETPRISM_FUZZ_CASES=5000000 $(BIN)/pytest tests/unit/test_levels.py tests/unit/test_columns.py --timeout 3000 $(ARGS)

.PHONY: docs
docs: $(INSTALLED) ## Build the site without a warning, and do what its pages say
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --site-dir .site
	$(BIN)/pytest tests/docs $(ARGS)

.PHONY: sim
sim: $(INSTALLED) ## Thousands of simulated crashes, each from a seed; every history of the protocol in small scopes
	$(BIN)/pytest tests/simulation tests/model $(ARGS)

.PHONY: model
model: $(INSTALLED) ## Every history of the protocol in large scopes (about half an hour, 3 GB)
	$(BIN)/python -m tests.model --scope large $(ARGS)

.PHONY: storage
storage: $(INSTALLED) ## Against a real nats-server and the real ClickHouse engine
	$(MAKE) -j 4 --output-sync=target storage-commands storage-console storage-operations storage-path

# Where ARGS select tests, there may be none in one of the parts (pytest's 5).
.PHONY: storage-path storage-commands storage-console storage-operations
storage-path: $(INSTALLED)
	$(BIN)/pytest tests/feed tests/embedded tests/storage tests/audit tests/dlq tests/replay $(ARGS) || test $$? = 5

storage-commands: $(INSTALLED)
	$(BIN)/pytest tests/commands $(ARGS) || test $$? = 5

storage-console: $(INSTALLED)
	$(BIN)/pytest tests/console tests/export $(ARGS) || test $$? = 5

storage-operations: $(INSTALLED)
	$(BIN)/pytest tests/operations tests/validation $(ARGS) || test $$? = 5

.PHONY: control-plane
control-plane: $(INSTALLED) ## The operator against a real API server
	$(BIN)/python -m tests.operator.controlplane.control_plane
	$(BIN)/pytest tests/operator/controlplane -m "not scale" $(ARGS)

.PHONY: scale
scale: $(INSTALLED) ## A thousand pipelines: time to Ready, memory, CPU, requests at rest and in an outage (a quarter of an hour)
	$(BIN)/python -m tests.operator.controlplane.control_plane
	$(BIN)/pytest tests/operator/controlplane -m scale -s $(ARGS)

FAULTS_ATTACKS := tests/faults/test_attacks_*.py tests/faults/test_cluster_*.py
FAULTS_NATS := tests/faults/test_nats_*.py tests/faults/test_start_*.py tests/faults/test_stream*.py
FAULTS_CLICKHOUSE := tests/faults/test_clickhouse_*.py tests/faults/test_what_*.py

.PHONY: faults
faults: $(INSTALLED) ## Processes killed, stopped and starved for real (minutes)
	@# They wait for most of the time, so four runs share the two cores.
	$(MAKE) -j 4 --output-sync=target faults-attacks faults-nats faults-clickhouse faults-others

.PHONY: faults-attacks faults-nats faults-clickhouse faults-others
faults-attacks:
	$(BIN)/pytest $(FAULTS_ATTACKS) -m "not slow" $(ARGS) || test $$? = 5

faults-nats:
	$(BIN)/pytest $(FAULTS_NATS) -m "not slow" $(ARGS) || test $$? = 5

faults-clickhouse:
	$(BIN)/pytest $(FAULTS_CLICKHOUSE) -m "not slow" $(ARGS) || test $$? = 5

faults-others:
	$(BIN)/pytest $(filter-out $(wildcard $(FAULTS_ATTACKS) $(FAULTS_NATS) $(FAULTS_CLICKHOUSE)),$(wildcard tests/faults/test_*.py)) -m "not slow" $(ARGS) || test $$? = 5

.PHONY: attacks
attacks: $(INSTALLED) ## The same with five processes, and dozens of kills (half an hour)
	$(BIN)/pytest tests/faults -m slow $(ARGS)

.PHONY: replicated
replicated: $(INSTALLED) ## Replicas behind a balancer, and two shards of them, named by CLICKHOUSE_CLUSTER and others (tests/replicated/conftest.py)
	$(BIN)/pytest tests/replicated $(ARGS)

.PHONY: haul
haul: $(INSTALLED) ## Half an hour of faults of all kinds: three nats-servers, replicas, three consumers (see tests/replicated)
	MARKETPRISM_HAUL_SECONDS=1800 $(BIN)/pytest tests/replicated/test_long_haul.py -s $(ARGS)

.PHONY: tiering
tiering: $(INSTALLED) ## Hot to cold: killed at every step, two at once, late rows (a minute)
	$(BIN)/pytest tests/tiering $(ARGS)

.PHONY: engines
engines: $(INSTALLED) ## The schema and inserts on ClickHouse 23.10 to today (downloads each engine once)
	$(BIN)/pytest tests/engines -m engines $(ARGS)

.PHONY: wild
wild: $(INSTALLED) nats-servers ## The world around: NATS in its shapes, accounts, limits, proxies (see CONTRIBUTING.md)
	$(BIN)/pytest tests/storage tests/operations tests/commands tests/compose tests/faults -m "wild and not slow" $(ARGS)

.PHONY: nats-servers
nats-servers: $(INSTALLED) ## What every nats-server has to do, on the last of 2.10, 2.11 and 2.12 (downloads each once)
	$(BIN)/python -m tests.nats_servers $(ARGS)

.PHONY: monitoring
monitoring: $(INSTALLED) ## Alerts and dashboards on a real Prometheus (see monitoring-tools), and compose.yaml
	$(BIN)/pytest tests/monitoring tests/compose $(ARGS)

.PHONY: monitoring-tools
monitoring-tools: ## Build prometheus and promtool with Go, for `make monitoring`
	GOBIN=$(HOME)/.cache/marketprism-tools go install -tags remove_all_sd \
		github.com/prometheus/prometheus/cmd/promtool@$(PROMETHEUS) github.com/prometheus/prometheus/cmd/prometheus@$(PROMETHEUS)

.PHONY: bench
bench: $(INSTALLED) ## End to end against a hand-written service, in one run: rates, CPU, memory, bytes a row, freshness
	$(BIN)/python -m bench $(ARGS)

.PHONY: bench-gate
bench-gate: $(INSTALLED) ## Fails where the consumer needs 15 % more CPU for a message than before this branch, whatever else the machine does
	$(BIN)/python -m bench.gate $(ARGS)

.PHONY: bench-pairs
bench-pairs: $(INSTALLED) ## The same with servers: fails where this branch is 15 % slower; wants a quiet machine
	$(BIN)/python -m bench.pairs $(ARGS)

.PHONY: bench-queries
bench-queries: $(INSTALLED) ## The documented queries on a day of data, beside tables as such services keep them
	$(BIN)/python -m bench.queries $(ARGS)

.PHONY: bench-tiering
bench-tiering: $(INSTALLED) ## Hot to cold with every check against a bare INSERT … SELECT and DELETE, in one run
	$(BIN)/python -m bench.tiering $(ARGS)

.PHONY: format
format: $(INSTALLED) ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: crds
crds: $(INSTALLED) ## Write crds/ and the generated pages from the code
	$(BIN)/python -m marketprism_api.crds crds
	$(BIN)/python -m marketprism_api.reasons_page docs/reference/reasons.md
	$(BIN)/python helm/generate.py
	$(BIN)/python -m pages
	$(BIN)/python -m monitoring.dashboards

.PHONY: chart
chart: $(INSTALLED) ## Write the generated parts of helm/ and deploy/, and test the chart (needs helm)
	$(BIN)/python helm/generate.py
	$(BIN)/pytest tests/chart $(ARGS)

CHECKOV := .checkov/bin/checkov
.PHONY: checkov
checkov: $(CHECKOV) ## What checkov says of the chart, of what the operator makes and of the images (needs helm)
	helm template marketprism helm --namespace marketprism-system --kube-version 1.36.0 --set test.enabled=true \
		--set console.enabled=true,console.spec.clickhouse.url=http://clickhouse:8123 > .checkov/chart.yaml
	$(CHECKOV) --framework kubernetes --file .checkov/chart.yaml $(wildcard tests/operator/golden/*.yaml)
	$(CHECKOV) --framework dockerfile --file Dockerfile.consumer Dockerfile.operator Dockerfile.console

# A venv of its own: it pins half of PyPI.
$(CHECKOV):
	$(PYTHON) -m venv .checkov
	.checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30

CYCLONEDX := .sbom/bin/cyclonedx-py
.PHONY: sbom
sbom: $(CYCLONEDX) ## What the images have of PyPI, as CycloneDX, in .sbom/
	for image in consumer operator console; do $(CYCLONEDX) requirements $$image/requirements.lock --pyproject $$image/pyproject.toml \
		--mc-type application --output-reproducible --output-format JSON --output-file .sbom/marketprism-$$image.cdx.json || exit; done

$(CYCLONEDX):
	$(PYTHON) -m venv .sbom
	.sbom/bin/pip install --quiet --disable-pip-version-check cyclonedx-bom==7.5.0

.PHONY: images
images: ## Build the images and hand them to the cluster of KUBECONFIG
	for image in $(IMAGES); do $(IMAGE_BUILD) localhost/marketprism-$$image:dev Dockerfile.$$image . || exit; done

.PHONY: install-dev
install-dev: images ## Definitions and operator on KUBECONFIG, from local images
	helm upgrade --install marketprism helm --namespace marketprism-system --create-namespace --wait --timeout 2m \
		--set image.repository=localhost/marketprism-operator,image.tag=dev --set podAnnotations.built="$$(date -u +%FT%TZ)" \
		--set consumerImage.repository=localhost/marketprism-consumer,consumerImage.tag=dev \
		--set console.image.repository=localhost/marketprism-console,console.image.tag=dev $(ARGS)

.PHONY: e2e
e2e: $(INSTALLED) ## Everything on the cluster of KUBECONFIG, which must be a test cluster
	$(BIN)/python -m tests.e2e.guard
	$(MAKE) images
	$(IMAGE_BUILD) localhost/marketprism-servers:dev tests/e2e/Dockerfile .
	$(BIN)/pytest tests/chart tests/e2e $(ARGS)

.PHONY: screenshots
screenshots: $(INSTALLED) ## Take the pictures of the docs, of a pipeline that runs for it (needs chromium)
	$(BIN)/python -m tests.console.screenshots docs/images

.PHONY: e2e-scaling
e2e-scaling: $(INSTALLED) ## Two million messages by 1 to 4 to 1 Pods, on the cluster and by the images of `make e2e` (a quarter of an hour)
	$(BIN)/python -m tests.e2e.guard
	$(BIN)/pytest tests/e2e -m scaling -s $(ARGS)

.PHONY: soak
soak: $(INSTALLED) ## Half an hour of faults of all kinds, on the cluster and by the images of `make e2e` (MARKETPRISM_SOAK_SECONDS, _SEED)
	$(BIN)/python -m tests.e2e.guard
	$(BIN)/pytest tests/e2e -m soak -s $(ARGS)

.PHONY: lock
lock: ## Resolve the dependencies anew into requirements.lock
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --no-emit-package marketprism-api --no-emit-package marketprism-console --no-emit-package marketprism-consumer --no-emit-package marketprism-embedded --no-emit-package marketprism-operator --all-extras --group dev --upgrade \
		api/pyproject.toml console/pyproject.toml consumer/pyproject.toml embedded/pyproject.toml operator/pyproject.toml pyproject.toml --output-file requirements.lock
	@# The images' own parts of it.
	for image in consumer operator; do $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-annotate --no-header --no-emit-package marketprism-api --constraints requirements.lock \
		api/pyproject.toml $$image/pyproject.toml --output-file $$image/requirements.lock || exit; done
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --no-emit-package marketprism-api --no-emit-package marketprism-consumer --constraints requirements.lock \
		api/pyproject.toml consumer/pyproject.toml console/pyproject.toml --output-file console/requirements.lock
	$(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header consumer/build-requirements.in --output-file consumer/build-requirements.lock

.PHONY: clean
clean: ## Remove what the targets made
	rm -rf .venv .checkov .sbom .site .pytest_cache .mypy_cache .ruff_cache .hypothesis marketprism-data marketprism-demo
