"""Tests of one migration of many databases."""
