# The entries. `make help` lists them; each is one call to the script or tool that does the work.

KDIR ?= /lib/modules/$(shell uname -r)/build
PREFIX ?= /usr/local
# The guest's kernel: 7.2, 7.3 or 7.2-rt from Debian's backports, or 7.2-debug, built from its source.
KERNEL ?= 7.2
export KERNEL KDIR PREFIX DESTDIR

.DEFAULT_GOAL := help

help: ## list these entries
	@printf 'pidlist: every process of a Linux machine, the short-lived ones included\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@printf '\nKERNEL=7.3 make test    another kernel in the guest (now %s)\n' '$(KERNEL)'

setup: ## build roots, guest kernel and initramfs, once (in ~/.cache/pidlist)
	@qemu/setup.sh

run: ## show pidlist at work, in a guest
	@qemu/guest.sh run --show --timeout 300 -- /tests/demo.sh

test: ## all tests: on this machine and in guests, with stock, real-time and debug kernels
	@tests/run.sh host guest rt harness debug

test-host: ## the tests that need no guest
	@tests/run.sh host

test-guest: ## the tests in the guest
	@tests/run.sh guest

test-rt: ## the tests in the guest, on the real-time kernel
	@tests/run.sh rt

test-debug: ## the tests in the guest, on a kernel with KASAN, lockdep, kmemleak and more (built once)
	@tests/run.sh debug

soak: ## the tests that run for hours, on the debug kernel
	@tests/run.sh soak

test-harness: ## the tests of the harness: a guest in trouble must turn the run red
	@tests/run.sh harness

bench: ## measure, and leave target/bench/<area>.json
	@tests/bench.sh

bench-pidset: ## measure the PID set beside the kernel's own: instructions, memory, lost pids
	@tests/bench.sh pidset

bench-cache: ## measure the process cache: events, look-ups, readers, memory
	@tests/bench.sh cache

shell: ## an interactive shell in the guest
	@qemu/guest.sh shell --interactive -- sh -l

module: ## build the kernel module for this machine (KDIR=…)
	@rust_pidlist/module.sh build

load: ## load the kernel module on this machine
	@rust_pidlist/module.sh load

unload: ## unload it
	@rust_pidlist/module.sh unload

install: ## install pidlist, and the module where it was built (PREFIX=…, DESTDIR=…)
	@userland/install.sh

fmt: ## format the Rust code
	@qemu/cargo.sh fmt --all

lint: ## format check, clippy, shellcheck
	@tests/run.sh lint

clean: ## remove what was built here (not the cache)
	@rm -rf target

.PHONY: help setup run test test-host test-guest test-rt test-debug test-harness soak bench bench-pidset bench-cache shell module load unload install fmt lint clean
