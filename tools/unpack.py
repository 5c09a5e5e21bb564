#!/usr/bin/env python3
"""unpack.py ARCHIVE FOLDER PATTERN...: extracts the members of a wheel or of an sdist (.tar.gz) that match
any pattern.
Of an sdist the leading folder NAME-VERSION/ is left out."""
import fnmatch
import os
import sys
import tarfile
import zipfile

archive_name, folder, *patterns = sys.argv[1:]


def wanted(name):
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def unpack_sdist():
    found = 0
    with tarfile.open(archive_name) as archive:
        for member in archive:
            name = member.name.partition("/")[2]
            if not member.isfile() or not wanted(name) or ".." in name.split("/"):
                continue
            os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
            with open(os.path.join(folder, name), "wb") as file:
                file.write(archive.extractfile(member).read())
            found += 1
    return found


def unpack_wheel():
    with zipfile.ZipFile(archive_name) as archive:
        members = [name for name in archive.namelist() if wanted(name)]
        archive.extractall(folder, members)
        return len(members)


if not (unpack_sdist() if archive_name.endswith(".tar.gz") else unpack_wheel()):
    sys.exit(f"{archive_name}: no member matches {patterns}")
