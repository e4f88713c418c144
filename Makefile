# make test RACE= runs without the race detector, as make test does where there is no C compiler.
RACE = -race

.PHONY: help demo test lint bench

help:
	@echo 'make demo    one refresh per expiry, shown with real processes; finds or installs a MySQL server'
	@echo 'make test    every test; REQUIRE_DOCKER=1 insists on MySQL in Docker'
	@echo 'make lint    gofmt, vet, staticcheck, tidy, what services link, shellcheck if there is one'
	@echo 'make bench   the benchmarks, at 1 and 4 goroutines, and those of the keeper'

demo:
	@.ci/ensure-server demo
	@go run ./cmd/demo storm

test:
	@.ci/test $(RACE) ./...

lint:
	@.ci/lint

bench:
	@.ci/test -run '^$$' -bench . -skip Keeper -benchmem -cpu 1,4 ./credentials/ ./credentials/bearer/ ./integration/
	@.ci/test -run '^$$' -bench Keeper -timeout 30m ./integration/
