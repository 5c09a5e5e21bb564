#include "where.h"

namespace retort {

const char* source_dir() { return RETORT_SOURCE_DIR; }
const char* binary_dir() { return RETORT_BINARY_DIR; }

}  // namespace retort
