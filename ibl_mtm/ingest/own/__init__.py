"""Recordings of any lab: from arrays, and from the files of other programs."""
