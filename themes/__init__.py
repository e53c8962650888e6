"""Themes: YAML files of colours by role, and their loader."""
