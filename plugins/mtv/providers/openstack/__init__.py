"""OpenStack: servers of a project, read through openstacksdk; volumes become readable as images in Glance."""
