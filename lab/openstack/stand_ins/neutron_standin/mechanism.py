"""A mechanism driver of ML2 that needs no agent."""

from __future__ import annotations

from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api


class StandInMechanism(api.MechanismDriver):
    """Binds every port, moves no packet."""

    def initialize(self):
        """Nothing to prepare."""

    @property
    def connectivity(self):
        """Plain layer 2."""
        return portbindings.CONNECTIVITY_L2

    def bind_port(self, context):
        """Take the first segment."""
        if context.segments_to_bind:
            segment = context.segments_to_bind[0]
            active = constants.PORT_STATUS_ACTIVE
            context.set_binding(segment[api.ID], "ovs", {"port_filter": False}, status=active)
