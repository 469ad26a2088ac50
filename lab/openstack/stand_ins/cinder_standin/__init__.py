"""Stand-in for a storage system: cinder keeps each volume as a sparse file."""
