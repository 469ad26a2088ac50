"""A driver that keeps volumes and snapshots as sparse raw files: no LVM, no mount, no root needed."""

from __future__ import annotations

import os
import subprocess

import cinder.privsep
import cinder.utils
import os_brick.privileged
from cinder import interface
from cinder.image import image_utils
from cinder.volume import configuration, driver, volume_utils
from oslo_config import cfg

_OPTIONS = [cfg.StrOpt("files_dir")]
cfg.CONF.register_opts(_OPTIONS, group=configuration.SHARED_CONF_GROUP)

# Files need no root: what cinder would run by sudo, or in a helper of root's, it does itself.
for context in (
    cinder.privsep.sys_admin_pctxt,
    os_brick.privileged.default,
    os_brick.privileged.brick_privsep_hide_output,
):
    context.set_client_mode(False)
cinder.utils.get_root_helper = lambda: "env"


@interface.volumedriver
class FilesDriver(driver.VolumeDriver):
    """Volumes as files of `files_dir`."""

    VERSION = "1"
    CI_WIKI_NAME = "none"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.configuration.append_config_values(_OPTIONS)

    def do_setup(self, context):
        """Make the folder."""
        os.makedirs(self.configuration.files_dir, exist_ok=True)  # noqa: PTH103  the service's own style of paths

    def check_for_setup_error(self):
        """Nothing can be wrong yet."""

    def local_path(self, volume):
        """The file of a volume or snapshot."""
        return os.path.join(self.configuration.files_dir, volume.name)  # noqa: PTH118

    def _copy(self, one, other):
        command = ["cp", "--reflink=auto", "--sparse=always", self.local_path(one), self.local_path(other)]
        subprocess.run(command, check=True)

    def create_volume(self, volume):
        """An empty file."""
        with open(self.local_path(volume), "wb") as file:  # noqa: PTH123
            file.truncate(volume.size << 30)

    def delete_volume(self, volume):
        """The file goes."""
        if os.path.exists(self.local_path(volume)):  # noqa: PTH110
            os.unlink(self.local_path(volume))  # noqa: PTH108

    def create_snapshot(self, snapshot):
        """A copy."""
        self._copy(snapshot.volume, snapshot)

    def delete_snapshot(self, snapshot):
        """The copy goes."""
        self.delete_volume(snapshot)

    def create_volume_from_snapshot(self, volume, snapshot):
        """A copy, made as large as asked."""
        self._copy(snapshot, volume)
        self.extend_volume(volume, volume.size)

    def create_cloned_volume(self, volume, src_vref):
        """A copy, made as large as asked."""
        self.create_volume_from_snapshot(volume, src_vref)

    def extend_volume(self, volume, new_size):
        """Larger, in GiB."""
        os.truncate(self.local_path(volume), new_size << 30)

    def copy_image_to_volume(self, context, volume, image_service, image_id, disable_sparse=False):
        """The image's content, as raw."""
        path = self.local_path(volume)
        image_utils.fetch_to_raw(context, image_service, image_id, path, "1M", size=volume.size, run_as_root=False)
        self.extend_volume(volume, volume.size)

    def copy_volume_to_image(self, context, volume, image_service, image_meta):
        """The volume's content into an image."""
        path = self.local_path(volume)
        volume_utils.upload_volume(context, image_service, image_meta, path, volume, run_as_root=False)

    def get_volume_stats(self, refresh=False):
        """Room for everything."""
        return {
            "volume_backend_name": self.configuration.safe_get("volume_backend_name"),
            "vendor_name": "mtv",
            "driver_version": self.VERSION,
            "storage_protocol": "file",
            "total_capacity_gb": 500,
            "free_capacity_gb": 500,
            "reserved_percentage": 0,
            "QoS_support": False,
            "multiattach": True,
            "thin_provisioning_support": True,
            "thick_provisioning_support": False,
            "max_over_subscription_ratio": 20,
            "provisioned_capacity_gb": 0,
        }

    def ensure_export(self, context, volume):
        """Files need no export."""

    def create_export(self, context, volume, connector):
        """Files need no export."""

    def remove_export(self, context, volume):
        """Files need no export."""

    def initialize_connection(self, volume, connector, **options):
        """The path."""
        return {"driver_volume_type": "local", "data": {"device_path": self.local_path(volume)}}

    def terminate_connection(self, volume, connector, **options):
        """Nothing was connected."""
