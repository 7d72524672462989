#!/bin/sh
# Runs the whole-program tests on the binary of this build tree; arguments go to pytest.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
SOCKROUTE=${SOCKROUTE:-$PWD/sockroute}
export SOCKROUTE
export PYTHONDONTWRITEBYTECODE=1
# Most tests wait more than they compute, so more of them run at once than there are cores.
# No test may wait for ever.
# Debian's python3, which has Debian's pytest, wherever another one may be first in PATH.
exec /usr/bin/python3 -m pytest -q -p no:cacheprovider -n "${SOCKROUTE_TEST_JOBS:-4}" --timeout 180 "$here/whole" "$@"
