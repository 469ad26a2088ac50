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
  mtv runs
  mtv runs --plan dc1
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
