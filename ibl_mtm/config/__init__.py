"""What people write: settings in YAML, and the catalog of datasets."""
