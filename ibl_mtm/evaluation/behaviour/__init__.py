"""Behaviour, decoded from activity: which, by what, how well."""
