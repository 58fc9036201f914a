# The two commands of the README, and a few more. `cargo xtask help` has the rest.

.DEFAULT_GOAL := help
.PHONY: help demo test bench gen

# Where cargo puts what it builds.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

help:
	@echo 'make demo    set up what is missing, build, and run the main job end to end'
	@echo 'make test    set up what is missing, and run every test and gate'
	@echo 'make bench   measure, beside docker and podman where they run'
	@echo 'make gen     write the generated documentation anew'

demo:
	scripts/setup demo
	cargo build --release --locked --package corten
	CORTEN=$(TARGET)/release/corten examples/secure-ai-app/demo.sh

test:
	scripts/setup test
	cargo xtask ci

bench:
	scripts/setup demo
	cargo xtask bench

gen:
	cargo xtask gen
