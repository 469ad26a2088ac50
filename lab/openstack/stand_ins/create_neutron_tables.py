"""Makes neutron's tables in the database that its configuration names: its hundreds of migrations take minutes."""

from __future__ import annotations

import configparser
import sys

from neutron.db.migration.models import head
from sqlalchemy import create_engine

parser = configparser.RawConfigParser(default_section="")
parser.read(sys.argv[1])
head.get_metadata().create_all(create_engine(parser["database"]["connection"]))
