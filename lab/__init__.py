"""A data centre in a box: real endpoints on loopback for the demo and the tests."""

import os

# Debian keeps mke2fs, sfdisk, losetup and depmod where only the PATH of root looks; others may run them all the same.
_FOLDERS = os.environ.get("PATH", os.defpath).split(os.pathsep)
os.environ["PATH"] = os.pathsep.join([*_FOLDERS, *(path for path in ("/usr/sbin", "/sbin") if path not in _FOLDERS)])
