"""Tests of the files for other tools, each run by the tool itself where it can be had."""
