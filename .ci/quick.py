"""
The quick part of the tests, as arguments for pytest: all unit tests, and of the
files that take long a few that start each kind of process for real.  With names, only
those of these files: `twistd` is tests/test_twistd.py.
"""

import sys
from pathlib import Path

TESTS = Path(__file__).parents[1] / "tests"

SLOW = {
    "abuse": "test_abuse[storm]",
    "bad_markers": "",
    "behind_a_balancer": "test_stop",
    "clock": "test_twisted_asks_the_reactor test_what_waits_already",
    "command": "test_kept test_standard_input test_json test_no_server test_help test_ctrl_c",
    "completion": "test_bash",
    "durability": "",
    "edges": "test_max_size_of_the_daemon",
    "expiry": "",
    "hook_command": "test_environment test_no_processes_left",
    "hook_ends": "",
    "hook_kills": "",
    "hook_starter": "",
    "interrupts": "test_while_it_starts",
    "journal_command": "test_table test_follow",
    "lending": "",
    "log_writer": "",
    "numbers": "test_ends test_only_digits",
    "permissions": "",
    "ping_command": "test_ready",
    "readme": "test_options test_python_program",
    "senders": "test_our_client",
    "serving": "test_read_only_folder",
    "share": "test_names_exist",
    "shortage": "",
    "signals": "test_reload test_log_file_is_reopened",
    "space": "",
    "standstill": "",
    "store_machine": "",
    "stuck_log": "",
    "systemd": "test_life[--workers=1]",
    "tls": "",
    "tls_endpoints": "",
    "tls_senders": "test_beside_others",
    "toml_text": "",
    "twistd": "test_serves test_daemon_mode test_stop test_check",
    "users": "",
    "watched": "test_it_leaves_nothing",
    "workers": "test_workers_drain",
}
"""What is quick in the files that are not."""

LONG = (
    "test_directory.py::TestAnyOrder",
    "test_hooks.py::test_real_daemon_cannot_start",
    "test_journal_reading.py::test_any_json",
    "test_name_record.py::test_killed_daemon",
    "test_networks.py::test_as_the_definition_says",
    "test_raw.py::test_anything",
)
"""Single tests that take long: what they find does not hang on a version."""

wanted = sys.argv[1:]
for test in LONG:
    print(f"--deselect=tests/{test}")
for path in sorted(TESTS.glob("test_*.py")):
    name = path.stem.removeprefix("test_")
    if wanted and name not in wanted:
        continue
    if name not in SLOW:
        print(path.relative_to(TESTS.parent))
    for test in SLOW.get(name, "").split():
        print(f"{path.relative_to(TESTS.parent)}::{test}")
