# One command watches a real batch be rendered (make demo), another runs the tests (make test).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo recipes test check real exactness memory fuzz-media faults chaos nodes kills story contract fuzz-api outside clean

$(VENV)/.embedded: pyproject.toml constraints.txt
	$(PYTHON) infra/setup_venv.py $(VENV) embedded

$(VENV)/.dev: pyproject.toml constraints.txt
	$(PYTHON) infra/setup_venv.py $(VENV) dev

demo: $(VENV)/.embedded ## start the embedded farm, submit a batch over HTTP, write demo-output/
	$(BIN)/dubfarm demo --output demo-output

recipes: $(VENV)/.dev ## after a change of the recipes: the listing that the API checks overrides against
	$(BIN)/python -m trainer recipes --json > farm/flow/recipes.json

test: $(VENV)/.dev ## the whole suite, on embedded Postgres and Valkey
	$(BIN)/python -m pytest

check: $(VENV)/.dev ## format, lint, types, import contracts, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/python -m pytest

real: $(VENV)/.dev ## proofs on real faces and voices, pulled from the registries
	$(BIN)/python -m pytest -m real

exactness: $(VENV)/.dev ## every frame is the same bits at chunk sizes 1, 7, 50, 333, all: a table (half an hour)
	$(BIN)/python -m tests.proofs.exactness

memory: $(VENV)/.dev ## peak memory of 1 and 10 minutes, and what a 4 h source's last chunk reads: tables (an hour)
	$(BIN)/python -m tests.proofs.memory

fuzz-media: $(VENV)/.dev ## 2,000 mutated media files through the sandboxed door, and what became of them (five minutes)
	$(BIN)/python -m tests.proofs.media_fuzz

faults: $(VENV)/.dev ## every promise under its fault, with partitions and the upgrade of the version before
	$(BIN)/python -m pytest tests/faults -m 'slow or not slow'

SEED ?= 1
MINUTES ?= 15
chaos: $(VENV)/.dev ## a random schedule of all faults over batches of 20 jobs: make chaos SEED=7 MINUTES=15
	$(BIN)/python -m tests.faults.chaos --seed $(SEED) --minutes $(MINUTES)

nodes: $(VENV)/.dev ## machines of their own (network namespaces, needs root): workers and Ray nodes, cut off and back
	$(BIN)/python -m pytest -s tests/faults/test_partition.py tests/faults/test_ray_nodes.py -m 'slow or not slow'

kills: $(VENV)/.dev ## a training's rank, driver and node killed, and one that makes way: each goes on, on the undisturbed curve
	$(BIN)/python -m pytest tests/trainer/test_ray_run.py tests/workers/test_way.py -m 'slow or not slow'

story: $(VENV)/.dev ## retraining from the cron line to a rollback; Ray's head and the Celery worker killed on the way (ten minutes)
	$(BIN)/python -m pytest tests/e2e/test_retrain.py tests/workers/test_ray_place.py -m 'slow or not slow'

contract: $(VENV)/.dev ## schemathesis against a live API process, all checks, for ten minutes
	$(BIN)/python -m tests.api.contract --examples 200 --max-time 600

fuzz-api: $(VENV)/.dev ## 20,000 mutated requests against a live API process
	$(BIN)/python -m tests.api.fuzz --count 20000

outside: $(VENV)/.dev ## the same suite on Debian's postgresql and redis-server and an S3 server
	$(BIN)/python infra/outside.py $(BIN)/python -m pytest

clean:
	rm -rf $(VENV) demo-output build dist *.egg-info
