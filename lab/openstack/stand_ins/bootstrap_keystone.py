"""`keystone-manage bootstrap` with the password out of a file: the command wants it in public.

Arguments: keystone.conf, file with the password, public URL, internal URL.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from keystone.cmd import cli

config, password, public, internal = sys.argv[1:]
os.environ["OS_BOOTSTRAP_PASSWORD"] = Path(password).read_text()  # seen by this process alone
urls = [f"--bootstrap-public-url={public}", f"--bootstrap-internal-url={internal}", f"--bootstrap-admin-url={internal}"]
cli.main(["keystone-manage", "--config-file", config, "bootstrap", "--bootstrap-region-id=RegionOne", *urls])
