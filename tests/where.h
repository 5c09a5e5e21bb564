// Where the sources and the build are. Two functions, so that the objects of tests, in which no path of this
// machine stands, are the compiler cache's for every clone.
#pragma once

namespace retort {

const char* source_dir();
const char* binary_dir();

}  // namespace retort
