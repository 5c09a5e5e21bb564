#!/usr/bin/env python3
"""retort imports nothing that opens a connection, neither itself nor through MPI; retort-online does so
through libcurl alone.

  no_network.py RETORT [RETORT-ONLINE]
"""
import re
import subprocess
import sys

NETWORK = re.compile(
    r"^(socket|socketpair|connect|bind|listen|accept4?|send(to|msg|mmsg)?|recv(from|msg|mmsg)?|getaddrinfo"
    r"|gethostby\w+|inet_\w+|curl_\w+|SSL_\w+|BIO_\w+|nghttp2_\w+)$"
)


def imports(program):
    lines = subprocess.run(
        ["nm", "-D", "--undefined-only", program], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    return {line.split()[-1].split("@")[0] for line in lines}


def libraries(program):
    text = subprocess.run(["readelf", "-d", program], check=True, capture_output=True, text=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.+?)\]", text)


def main(offline, online=None):
    problems = []
    symbols = imports(offline)
    if not {"open", "open64", "fopen", "fopen64"} & symbols:
        problems.append(
            f"{offline}: imports no file function either; is this check looking at the right thing?"
        )
    problems += [f"{offline}: imports {symbol}" for symbol in sorted(symbols) if NETWORK.match(symbol)]
    problems += [
        f"{offline}: is linked with {library}"
        for library in libraries(offline)
        if re.match(r"lib(curl|ssl|nghttp2|ssh|mpi|open-rte|open-pal|pmix)", library)
    ]
    if online:
        found = {symbol for symbol in imports(online) if NETWORK.match(symbol)}
        if "curl_easy_perform" not in found:
            problems.append(f"{online}: does not import libcurl, so that this check shows nothing")
        problems += [
            f"{online}: imports {symbol} beside libcurl"
            for symbol in sorted(found)
            if not symbol.startswith("curl_")
        ]
    print("\n".join(problems) or f"{offline}: {len(symbols)} imports, none of a network")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
