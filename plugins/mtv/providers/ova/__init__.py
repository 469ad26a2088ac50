"""Folders of OVA and OVF appliances, read where they lie: nothing is ever unpacked."""
