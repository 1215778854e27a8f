"""
Print the quick part of the tests as arguments for pytest: all unit tests and, from the
slow files, a few tests that start each kind of process for real.  If names are given,
only those files: `system/stop` is tests/system/test_stop.py.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"

SLOW = {
    "cli/completion": "test_bash",
    "cli/failures": "test_no_server",
    "cli/interrupted": "",
    "cli/interrupts": "test_while_it_starts",
    "cli/log": "test_table test_follow",
    "cli/output": "test_json",
    "cli/ping": "test_ready",
    "cli/retries": "",
    "cli/sending": "test_stored test_standard_input",
    "cli/serve": "test_read_only_folder",
    "cli/terminal": "test_ctrl_c",
    "cli/usage": "test_help",
    "config/dump": "",
    "daemon/certificate_expiry": "",
    "daemon/systemd": "test_notifications[--workers=1]",
    "engines/engines": "",
    "hooks/bad_markers": "",
    "hooks/command": "test_environment test_no_processes_left",
    "hooks/ends": "",
    "hooks/hook_spawner": "",
    "hooks/hook_spawner_ends": "",
    "net/clock": "test_twisted_asks_the_reactor test_pending_calls",
    "net/tls/endpoints": "",
    "net/tls/handshakes": "",
    "net/tls/transport": "",
    "net/tls/uploads": "",
    "observability/log_writer": "",
    "project/guides": "test_configuration test_manual_page",
    "project/readme": "test_python_program",
    "project/share": "test_names_exist",
    "project/site": "",
    "proofs/abuse": "test_abuse[storm]",
    "proofs/durability": "",
    "stores/directory/any_order": "",
    "stores/directory/space": "",
    "system/background": "test_daemon_mode",
    "system/behind_a_balancer": "test_stop",
    "system/check": "test_check",
    "system/configuration": "",
    "system/disk": "",
    "system/edges": "test_max_size_of_the_daemon",
    "system/hook_kills": "",
    "system/each_front_end": "test_stored[raw] test_stored[http]",
    "system/http_access": "test_before_the_body",
    "system/http_guide": "test_command_of_the_daemon",
    "system/http_proxies": "",
    "system/http_uploads": "test_metadata_everywhere",
    "project/docs": "",
    "project/words": "",
    "stores/directory/partials_any_order": "",
    "stores/directory/partials_crashes": "",
    "stores/directory/partials_takeover": "",
    "system/large_senders": "",
    "system/log_and_journal": "",
    "system/many": "",
    "system/metrics": "test_it_leaves_nothing",
    "system/names": "test_in_the_background",
    "system/numbers": "test_limits test_only_digits",
    "system/options": "",
    "system/page/choosing": "test_several",
    "system/page/interruptions": "",
    "system/page/looks": "",
    "system/page/refusals": "",
    "system/permissions": "",
    "system/reserve": "",
    "system/senders": "test_client",
    "system/shortage": "",
    "system/signals": "test_reload test_log_file_is_reopened",
    "system/stalls": "",
    "system/start": "test_serves",
    "system/start_errors": "",
    "system/stop": "test_stop",
    "system/stuck_log": "",
    "system/tls_senders": "test_beside_others",
    "system/tus_clients": "test_curl",
    "system/uppy": "",
    "system/usage": "",
    "system/users": "",
    "system/workers": "test_workers_drain",
    "cli/sending_folders": "test_same_names_in_an_archive",
    "cli/watch": "test_moves",
    "client/flavours": "test_metadata",
    "client/other_systems": "",
    "client/restarts": "",
    "engines/fault_proxy": "",
    "project/fleet_guide": "",
    "project/object_store_guide": "",
    "project/recipes": "",
    "stores/s3/bucket_faults": "",
    "stores/s3/faults": "",
    "system/check_object_store": "",
    "system/command_http": "test_folders",
    "system/forward": "",
    "system/object_store": "",
    "system/ping": "",
    "cli/invite": "test_defaults",
    "cli/starting": "test_daemon",
    "cli/token": "test_life_of_a_token",
    "client/http/any_break": "test_never_twice",
    "hooks/long_queues": "test_many_at_once",
    "simulation/filesystem_is_real": "",
    "simulation/network_is_real": "",
    "simulation/planted": "",
    "simulation/reactor_is_real": "",
    "simulation/regressions": "",
    "simulation/replay": "",
}
"""The tests to run from files that are slow."""

ONCE = {
    "project/architecture",
    "project/benchmarks",
    "project/packaging",
    "project/scale_simulation",
    "project/seams",
}
"""Files about the source and the wheel, the same on every Python: only if they are named."""

LONG = (
    "hooks/test_runner.py::test_real_daemon_cannot_start",
    "observability/test_journal_reader.py::test_any_json",
    "net/test_networks.py::test_as_the_definition_says",
    "frontends/raw/test_ends.py::test_any_order",
    "stores/s3/test_s3_store.py::TestOnEngine",  # a bucket is tested on it: stores/s3/s3_bucket
)
"""Single slow tests whose results do not depend on versions."""

names = {
    str(path.relative_to(TESTS).with_suffix("")).replace("test_", ""): path
    for path in sorted(TESTS.rglob("test_*.py"))
}
wanted = sys.argv[1:]
if missing := {*SLOW, *ONCE, *wanted} - {*names}:
    sys.exit(f"no such file of tests: {' '.join(sorted(missing))}")
for test in LONG:
    print(f"--deselect=tests/{test}")
for name, full_path in names.items():
    path = full_path.relative_to(TESTS.parent)
    if name not in wanted if wanted else name in ONCE:
        continue
    if name not in SLOW:
        print(path)
    for test in SLOW.get(name, "").split():
        print(f"{path}::{test}")
