# The two commands of the README, and a few more. `cargo xtask help` has the rest.

.DEFAULT_GOAL := help
.PHONY: help demo install test test-vm bench gen

# Where cargo puts what it builds.
TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))

# Where the program goes: to everybody's programs as root, else to the user's own.
PREFIX := $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)

help:
	@echo 'make demo    set up what is missing, build, and run the main job end to end'
	@echo 'make install build, and put the program into $(PREFIX)/bin (PREFIX=… for elsewhere)'
	@echo 'make test    set up what is missing, and run every test and gate'
	@echo 'make test-vm test the runtime in a virtual machine with systemd and control groups v2'
	@echo 'make bench   measure, beside docker and podman where they run'
	@echo 'make gen     write the generated documentation anew'

demo:
	scripts/setup demo
	cargo xtask build
	CORTEN=$(TARGET)/release/corten examples/secure-ai-app/demo.sh

install:
	scripts/setup demo
	cargo xtask build
	install -D -m 0755 $(TARGET)/release/corten $(DESTDIR)$(PREFIX)/bin/corten

test:
	scripts/setup test
	cargo xtask ci

test-vm:
	scripts/test-vm

bench:
	scripts/setup demo
	cargo xtask bench

gen:
	cargo xtask gen
