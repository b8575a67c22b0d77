"""The archive: bundles of files, each sealed by its manifest, and a page that lists them."""
