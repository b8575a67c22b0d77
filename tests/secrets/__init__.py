"""Tests of the package's part that takes secrets out."""
