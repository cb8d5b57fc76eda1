#!/bin/sh
# Installs the Debian packages that a lab takes from its host: what `lab deps`
# names. It needs root, apt-get and Go; where one is missing it says so.
set -eu
cd "$(dirname "$0")"
. ../toolchain.env
export GOTOOLCHAIN
go build -o ../bin/lab .
exec ../bin/lab deps --install
