"""A data centre in a box: real endpoints on loopback for the demo and the tests."""
