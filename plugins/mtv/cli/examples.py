"""Words of the help: what that of each command ends with, and how moments are written."""

from __future__ import annotations

from collections.abc import Mapping

MOMENTS = "2h, 3d, 1w (ago), 2026-11-25, 2026-11-25T22:00 (UTC unless it says otherwise)"
SINCE = f"{MOMENTS}, or `last`: the look before the newest"

_INVENTORY = """\
examples:
  mtv inventory lab-vcenter                       read it, keep it, print VMs, a summary and what changed
  mtv inventory lab-vcenter --vm web-1 --json     everything that is known of one VM now; nothing is kept
  mtv inventory show lab-vcenter web-1            the same from the store, with what rules said of it
  mtv inventory show lab-vcenter web-1 --at 3d    as it was three days ago
  mtv inventory diff lab-vcenter                  what the newest look found changed
  mtv inventory diff lab-vcenter --since 2026-11-01 --until 2026-11-08
"""

EXAMPLES: Mapping[str, str] = {
    "plan": """\
examples:
  mtv plan check dc1.yaml                         what is wrong with it, if anything
  mtv plan show dc1.yaml                          what each VM would do
  mtv plan approve dc1.yaml --by anna             pin its VMs as they are
""",
    "rules": """\
examples:
  mtv rules list --provider vmware                ids, categories, labels
  mtv rules test                                  run every rule's own examples
  mtv rules evaluate --provider vmware vms.jsonl  what they say of given VMs
""",
    "rules list": """\
examples:
  mtv rules list
  mtv rules list --provider vmware | grep Critical
""",
    "plan check": """\
examples:
  mtv plan check include/plans                    a folder
  mtv plan check dc1.yaml                         with the CSV of the same stem, if there is one

Each problem is one line: file:line:column (row and column in a CSV), what is wrong, how to mend it.
""",
    "plan show": """\
examples:
  mtv plan show dc1.yaml                          waves, VMs, options, and whether the last inventory lets them move
  mtv plan show dc1.yaml --json | jq '.waves[0]'
""",
    "plan approve": """\
examples:
  mtv plan approve dc1.yaml --by anna             every wave, pinned as the newest inventory has its VMs
  mtv plan approve dc1.yaml --by anna --wave pilot

A VM that differs later stops with the difference, until the wave is approved again.
""",
    "plan schema": """\
example:
  mtv plan schema > plan.schema.json              then, as first line of a plan: # yaml-language-server: $schema=…
""",
    "validate": """\
examples:
  mtv validate dc1.yaml                           each concern with its VMs, then verdicts; exit 1 if a VM is blocked
  mtv validate dc1.yaml --wave pilot --json       by VM and by concern

Reads the source and the target by the connections of MTV_CONNECTIONS_FILE.
""",
    "rules test": """\
examples:
  mtv rules test
  mtv rules test --folder my-rules                rules of your own, see include/validation_rules/README.md
""",
    "rules evaluate": """\
examples:
  mtv rules evaluate --provider vmware vms.jsonl
  mtv inventory vcenter-dc1 --json | jq -c '.[].document' | mtv rules evaluate --provider vmware -
""",
    "runs": """\
examples:
  mtv runs                                        what has run
  mtv runs --plan dc1
  mtv runs close 20261205-220411-5f0c2a --by anna --reason "its DAG run was deleted"
  mtv runs forget dc1 web-1 --gone source --by anna --reason "its vCenter was scrapped"
""",
    "runs list": """\
examples:
  mtv runs
  mtv runs --plan dc1
""",
    "runs close": """\
examples:
  mtv runs close 20261205-220411-5f0c2a --by anna --reason "its DAG run was deleted"
  mtv runs close 20261205-220411-5f0c2a --by anna --reason "Airflow was set up anew" --airflow-lost-it

For a run that is `running` though Airflow has none of its tasks any more: the DAG run was deleted, or Airflow's
database is another one. While Airflow has the run, mark it failed there instead: that settles its VMs.

Only the store is changed. VMs that the run holds stay as they are, sources shut down, until the next run of the plan
settles them: it rolls back or finishes what was begun. Refused while the run's last trace is younger than an hour or
a step has not ended, unless --airflow-lost-it says that nobody works on it.
""",
    "runs forget": """\
examples:
  mtv runs forget dc1 web-1 --gone source --by anna --reason "its vCenter was scrapped"
  mtv runs forget dc1 web-1 --gone target --by anna --reason "the cluster burnt down"

For a VM that an ended run still holds and no run can settle, because its source or target will never answer again. As
long as they may, start the wave again: it settles the VM properly.

Only the store is changed. The source is NOT started again, copies and snapshots on it are NOT removed, pods, claims and
VirtualMachines on the target are NOT removed or stopped. What is left where is printed. A VM that exists on the target
keeps its phase unless the target is what is gone; any other begins anew in the next run that has it.
""",
    "store": """\
example:
  mtv store upgrade
""",
    "store upgrade": """\
example:
  mtv store upgrade

Waves and inventories in Airflow do this by themselves when they begin and no run is active. It cannot be undone: other
components and commands of an older mtv are refused afterwards.
""",
    "report": """\
examples:
  mtv report last                                 of the newest run
  mtv report 5f0c2a --folder /srv/reports         a run's id, as `mtv runs` shows it
""",
    "inventory": _INVENTORY,
    "inventory take": _INVENTORY,
    "inventory show": _INVENTORY,
    "inventory diff": _INVENTORY,
}
"""Command, without `mtv`, to what its help ends with."""
