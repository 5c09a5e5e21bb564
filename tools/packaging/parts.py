"""What the programs are linked from: Debian's packages and wheels, each with its licence.

The licence is that of what is linked, not of a package's tools and documentation."""

import collections

# libraries: names as the linker has them, without lib and .so. headers: of a part whose code comes with its
# headers, the folder by which it is seen in what was compiled.
Part = collections.namedtuple("Part", "name package licence libraries headers", defaults=((), ""))

DEBIAN = [
    Part("CLI11", "libcli11-dev", "BSD-3-Clause", headers="/usr/include/CLI/"),
    Part("nlohmann-json", "nlohmann-json3-dev", "MIT", headers="/usr/include/nlohmann/"),
    Part("libaec", "libaec-dev", "BSD-2-Clause", ("aec", "sz")),
    Part("fmt", "libfmt-dev", "MIT", ("fmt",)),
    Part("HDF5", "libhdf5-dev", "BSD-3-Clause", ("hdf5", "hdf5_serial")),
    Part("PCRE2", "libpcre2-dev", "BSD-3-Clause WITH PCRE2-exception AND BSD-2-Clause", ("pcre2-8",)),
    Part("SentencePiece", "libsentencepiece-dev", "Apache-2.0", ("sentencepiece", "sentencepiece_train")),
    Part("simdjson", "libsimdjson-dev", "Apache-2.0", ("simdjson",)),
    Part("spdlog", "libspdlog-dev", "MIT", ("spdlog",), "/usr/include/spdlog/"),
    Part("OpenSSL", "libssl-dev", "Apache-2.0", ("crypto", "ssl")),
    Part("utf8proc", "libutf8proc-dev", "MIT AND Unicode-DFS-2015", ("utf8proc",)),
    Part("xxHash", "libxxhash-dev", "BSD-2-Clause", ("xxhash",)),
    Part("yaml-cpp", "libyaml-cpp-dev", "MIT", ("yaml-cpp",)),
    Part("Zstandard", "libzstd-dev", "BSD-3-Clause OR GPL-2.0-only", ("zstd",)),
    Part("zlib", "zlib1g-dev", "Zlib", ("z",)),
    Part("curl", "libcurl4-openssl-dev", "curl", ("curl",)),
]
# Of tools/setup's wheels. Wheels state licences of all that is in them.
WHEELS = [
    Part("LibTorch", "torch", None, ("torch_cpu", "c10")),
    Part("Arrow and Parquet", "pyarrow", "Apache-2.0", ("arrow", "parquet")),
    Part("CUDA runtime", "nvidia-cuda-runtime", None, ("cudart",)),
    Part("CUPTI", "nvidia-cuda-cupti", None, ("cupti",)),
]
JINJA = Part("llama.cpp's Jinja interpreter", "llama-cpp-python", "MIT", ("jinja_engine",))
GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"
GLIBC = "LGPL-2.1-or-later"
RUNTIME = [  # GCC's own
    Part("libgomp", "libgomp1", GCC, ("gomp",)),
    Part("libstdc++", "libstdc++6", GCC, ("stdc++",)),
    Part("libgcc", "libgcc-s1", GCC, ("gcc_s",)),
]


def library_name(path):
    """'/usr/lib/libfmt.so.9.1.0' and 'libfmt.a': 'fmt'."""
    name = str(path).rsplit("/", 1)[-1].removeprefix("lib")
    return name.split(".so")[0].removesuffix(".a")


def part_of(library):
    """The part that a library belongs to; None where nobody listed it."""
    for part in [*DEBIAN, *WHEELS, *RUNTIME, JINJA]:
        if library in part.libraries:
            return part
    return None
