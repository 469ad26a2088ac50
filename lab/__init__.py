"""A data centre in a box: real endpoints on loopback for the demo and the tests."""

import os

# Debian keeps mke2fs, sfdisk, losetup and depmod where only the PATH of root looks; others may run them all the same.
_FOLDERS = os.environ.get("PATH", os.defpath).split(os.pathsep)
os.environ["PATH"] = os.pathsep.join([*_FOLDERS, *(path for path in ("/usr/sbin", "/sbin") if path not in _FOLDERS)])

# What is reached by loopback is not asked of a proxy that the machine needs for everything else.
for _NAME in ("NO_PROXY", "no_proxy"):
    _HOSTS = [host for host in os.environ.get(_NAME, "").split(",") if host]
    os.environ[_NAME] = ",".join([*_HOSTS, *(host for host in ("127.0.0.1", "localhost") if host not in _HOSTS)])

# Pods and guests run as users of their own and read what is built here; what is secret has a mode of its own.
os.umask(0o022)
