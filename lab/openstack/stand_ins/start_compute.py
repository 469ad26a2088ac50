"""Starts nova-compute with the stand-in: nova loads drivers only from below its own package."""

from __future__ import annotations

import os
import sys

import nova.cmd.compute
import nova.virt

nova.virt.__path__.append(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120
sys.argv[0] = "nova-compute"
nova.cmd.compute.main()
