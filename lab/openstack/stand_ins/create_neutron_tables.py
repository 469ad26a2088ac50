"""Makes neutron's tables in the database that is named: its migrations do not run on SQLite."""

from __future__ import annotations

import sys

from neutron.db.migration.models import head
from sqlalchemy import create_engine

head.get_metadata().create_all(create_engine(sys.argv[1]))
