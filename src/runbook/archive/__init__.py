"""The archive: bundles of files in a folder or an object store, each sealed by its manifest."""
