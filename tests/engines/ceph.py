"""
``python -m tests.engines.ceph up TREE``: a Ceph of one node with its object gateway, in a
Debian in the folder TREE; ``down TREE`` ends it.

The first time, the Debian is made: it takes 2 minutes, 0.9 GB, and root.  After that it is
up in 20 seconds.  Objects are in memory: keep less than 1 GiB in it.  Tests use the one whose
TREE is in the environment variable CEPH_TREE.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.engines.engine import ACCESS_KEY, SECRET_KEY, Engine
from tests.proofs import rigs
from tests.support.processes import until_gone
from tests.support.tools import free_port

__all__ = ["MISSING", "down", "running", "up"]

MISSING = "needs Ceph: python -m tests.engines.ceph up TREE, and CEPH_TREE=TREE"

_STATE = "rgw/engine.json"
_PACKAGES = ("radosgw", "ceph-common", "ceph-mon", "ceph-osd")

_CONFIG = """\
[global]
fsid = 11111111-2222-3333-4444-555555555555
mon_host = [v2:127.0.0.1:{v2},v1:127.0.0.1:{v1}]
mon_initial_members = a
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = /rgw/keyring
run_dir = /rgw
admin_socket = /rgw/$name.asok
log_file = /rgw/$name.log
pid_file = /rgw/$name.pid
debug_rgw = 0
debug_osd = 0
debug_ms = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_pg_autoscale_mode = off
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_data = /rgw/mon
mon_data_avail_crit = 1
osd_data = /rgw/osd
osd_objectstore = memstore
memstore_device_bytes = 4294967296
osd_class_dir = /usr/lib/x86_64-linux-gnu/rados-classes
osd_crush_chooseleaf_type = 0
ms_bind_ipv6 = false
ms_bind_port_min = {osd}
ms_bind_port_max = {osd_end}
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
[client.rgw]
rgw_frontends = beast endpoint=127.0.0.1:{s3}
rgw_enable_usage_log = false
rgw_gc_obj_min_wait = 2
rgw_gc_processor_period = 5
rgw_gc_processor_max_time = 30
"""

_UP = r"""
set -e
cd /rgw
until_it() {
    for _ in $(seq 300); do "$@" >/dev/null 2>&1 && return; sleep 0.1; done
    echo "in vain: $*" >&2
    exit 1
}
mkdir mon osd
ceph-authtool -C keyring --gen-key -n mon. --cap mon 'allow *'
ceph-authtool keyring --gen-key -n client.admin \
    --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *'
ceph-authtool keyring --gen-key -n osd.0 --cap mon 'allow profile osd' --cap osd 'allow *'
ceph-authtool keyring --gen-key -n client.rgw --cap mon 'allow rwx' --cap osd 'allow rwx'
monmaptool --create --fsid 11111111-2222-3333-4444-555555555555 \
    --addv a "[v2:127.0.0.1:$1,v1:127.0.0.1:$2]" monmap --clobber
ceph-mon --mkfs -i a --monmap monmap --keyring keyring
ceph-mon -i a
until_it timeout 3 ceph -s
ceph osd new 22222222-2222-3333-4444-555555555555 0
ceph-osd -i 0 --mkfs --osd-uuid 22222222-2222-3333-4444-555555555555
ceph-osd -i 0
ceph osd crush add osd.0 1 root=default host=h
until_it sh -c "ceph osd stat | grep -q '1 up'"
radosgw -n client.rgw
until_it bash -c "echo >/dev/tcp/127.0.0.1/$3"
radosgw-admin user create --uid=tests --display-name=tests --access-key="$4" --secret-key="$5"
"""


def up(tree: Path) -> Engine:
    """
    Start it, after `down` if it runs.

    :raises rigs.Skip: this machine lacks what it needs.
    """
    rigs.needs("unshare", "chroot", "mount")
    if not (tree / "usr/bin/radosgw").exists():
        _install(tree)
    down(tree)
    folder = tree / "rgw"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (tree / "etc/ceph").mkdir(exist_ok=True)
    v2, v1, s3, osd = (free_port() for _ in range(4))
    config = _CONFIG.format(v2=v2, v1=v1, s3=s3, osd=osd, osd_end=osd + 100)
    (tree / "etc/ceph/ceph.conf").write_text(config)
    _inside(tree, "bash", "-c", _UP, "up", *map(str, (v2, v1, s3, ACCESS_KEY, SECRET_KEY)))
    pid = int((folder / "client.rgw.pid").read_text())
    engine = Engine("ceph", f"http://127.0.0.1:{s3}", pid)
    (tree / _STATE).write_text(json.dumps(asdict(engine)))
    return engine


def down(tree: Path) -> None:
    """End it; the Debian stays."""
    for file in (tree / "rgw").glob("*.pid"):
        with contextlib.suppress(ValueError, ProcessLookupError):
            pid = int(file.read_text())
            if os.path.samefile(f"/proc/{pid}/root", tree):
                os.kill(pid, signal.SIGKILL)
                until_gone(pid)
        file.unlink()
    (tree / _STATE).unlink(missing_ok=True)


def running() -> Engine | None:
    """
    Return the one that tests use, if there is one.

    :raises AssertionError: it has been set up, and does not serve.
    """
    tree = os.environ.get("CEPH_TREE")
    if not tree:
        return None
    state = Path(tree, _STATE)
    assert state.exists(), f"Ceph is not up: python -m tests.engines.ceph up {tree}"
    engine = Engine(**json.loads(state.read_text()))
    engine.witness().create()
    return engine


def _install(tree: Path) -> None:
    """Make the Debian."""
    rigs.needs("debootstrap")
    print(f"making a Debian with Ceph in {tree}: this takes 2 minutes", file=sys.stderr)
    _run("debootstrap", "--variant=minbase", "trixie", str(tree))
    for name in ("resolv.conf", "apt/apt.conf.d"):
        source, target = Path("/etc", name), tree / "etc" / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            shutil.copyfile(source, target)
    _inside(tree, "apt-get", "update", "-q")
    options = ("-y", "-q", "--no-install-recommends", "-o", "Dpkg::Options::=--force-unsafe-io")
    _inside(tree, "apt-get", "install", *options, *_PACKAGES)


def _inside(tree: Path, *command: str) -> None:
    """Run a command in the Debian; what it starts keeps its mounts, which are gone with it."""
    script = 'mount --bind /proc "$0/proc" && mount --rbind /dev "$0/dev" && exec chroot "$0" "$@"'
    environment = ("env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C")
    _run("unshare", "--mount", "sh", "-c", script, str(tree), *environment, *command)


def _run(*command: str) -> None:
    with tempfile.TemporaryFile() as output:  # not a pipe: daemons that it starts inherit it
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
            timeout=900,
        )
        if done.returncode:
            output.seek(0)
            sys.stderr.write(output.read().decode(errors="replace")[-3000:])
            raise rigs.Skip(f"{command[0]} failed with {done.returncode}")


def main() -> None:
    """Start or end one."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines.ceph")
    parser.add_argument("do", choices=["up", "down"])
    parser.add_argument("tree", type=lambda path: Path(path).resolve())
    arguments = parser.parse_args()
    if arguments.do == "down":
        down(arguments.tree)
        return
    try:
        engine = up(arguments.tree)
    except rigs.Skip as reason:
        sys.exit(f"not possible here: {reason}")
    for name, value in engine.environment().items():
        print(f"export {name}={value}")
    print(f"export CEPH_TREE={arguments.tree}")


if __name__ == "__main__":
    main()
