"""Folders in ONE's layout, whoever put them there."""
