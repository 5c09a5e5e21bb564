#!/usr/bin/env python3
"""unpack.py WHEEL FOLDER PATTERN...: extracts the members of a wheel that match any pattern."""
import fnmatch
import sys
import zipfile

wheel, folder, *patterns = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    members = [name for name in archive.namelist() if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]
    if not members:
        sys.exit(f"{wheel}: no member matches {patterns}")
    archive.extractall(folder, members)
